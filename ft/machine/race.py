"""Which ways to compute are measured, in which order, and for how long."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from ft.input_spec import InputSpec
from ft.machine.decide import COPIES_OF_PARAMETERS, Variant, divisors, fastest, half
from ft.machine.probe import Probe, Run, untouched
from ft.machine.system import Others, is_out_of_memory
from ft.machine.timings import Measured, Timings, seconds

BUDGET_SECONDS = 8.0  # no further way is begun then, but for all threads
# Enough on a CPU, whose fp32 kernels for fewer are slower (tf_efficientnet_lite0, forward: 88 images/s in batches of 8,
# 131 in batches of 16); a GPU is only busy with the real batch.
CPU_BATCH = 16
# Of a large model fewer, as these show.
FIRST_BATCH, STEP_SECONDS = 2, 2.0


def race(
    probe: Probe, mode: str, precisions: Sequence[str], batch: int, deadline: float, *, clock: Callable[[], float]
) -> dict[Variant, Measured]:
    """Measures each precision with images channels last, then the fastest one with contiguous images.

    Args:
        probe: Runs the model.
        mode: ``frozen`` or ``train``.
        precisions: The first is always measured.
        batch: Images that should go through at once; halved while they do not fit.
        deadline: When ``clock`` says so, no further variant is begun.
        clock: Of the deadline.
    """
    found: dict[Variant, Measured] = {}

    def enter(variant: Variant) -> None:
        if found and clock() > deadline:
            return
        limit = min((each.seconds for each in found.values()), default=math.inf)
        # Where the first was measured with fewer images, which kernels can tell, so are the others.
        size = min((each.batch for each in found.values() if not each.limit), default=batch)
        if measured := _measured(probe, mode, variant, size, limit):
            found[variant] = measured

    for precision in precisions:
        enter(Variant(precision, True))
    enter(fastest(seconds(found))._replace(channels_last=False))
    return found


def _measured(probe: Probe, mode: str, variant: Variant, batch: int, limit: float) -> Measured | None:
    run = probe.frozen if mode == "frozen" else probe.train
    size, refused = batch, False
    while True:
        try:
            fewer = size if math.isfinite(limit) else _not_too_long(probe, run, variant, size)
            taken = probe.seconds(run, probe.images(fewer, variant), variant.precision, limit)
            return None if taken is None else Measured(taken, fewer, size if refused else 0)
        except (RuntimeError, ValueError) as error:
            smaller = half(batch, size)
            if smaller is None or not is_out_of_memory(error):
                # A layer that lacks this precision, for one: another way to compute is left.
                return None
            size, refused = smaller, True


def timed_batch(batch: int, device: torch.device) -> int:
    """Images that go through at once while they are timed, at most."""
    return min(batch, CPU_BATCH) if device.type == "cpu" else batch


def _not_too_long(probe: Probe, run: Run, variant: Variant, batch: int) -> int:
    """A smaller batch where the model is so large that the usual one would take long."""
    if probe.device.type != "cpu" or batch <= FIRST_BATCH:
        return batch
    each = math.inf
    # Once more if it was slow: the first run prepares kernels.
    for _ in range(2):
        start = probe.now()
        run(probe.images(FIRST_BATCH, variant), variant.precision)
        each = (probe.now() - start) / FIRST_BATCH
        if each * batch <= STEP_SECONDS:
            return batch
    return next((size for size in divisors(batch) if size * each <= STEP_SECONDS), FIRST_BATCH)


def thread_counts(available: int) -> list[int]:
    """1, 2, 4 ... and all that there are."""
    return sorted({1 << at for at in range(available.bit_length()) if 1 << at <= available} | {available})


def measure(
    model: nn.Module,
    spec: InputSpec,
    *,
    device: torch.device,
    batch: int,
    precisions: Mapping[str, Sequence[str]],
    available: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Races all variants, then the best ones on other numbers of threads.

    Args:
        model: Images to logits.
        spec: Shape of the images.
        device: Where training will be.
        batch: Images that should go through at once.
        precisions: Of ``frozen`` and of ``train``, those that are to be measured.
        available: Threads that may be used.
        clock: Of the time budget.
    """
    start, others = clock(), Others()
    found: dict[str, dict[Variant, Measured]] = {}
    by_threads: dict[str, dict[int, float]] = {}
    # Half of them: the others decode meanwhile, or belong to somebody else.
    shared = max(1, available // 2)
    with untouched(model, device):
        model.to(device)
        probe = Probe(model, spec, device)
        torch.set_num_threads(shared)
        for mode, share in (("frozen", 0.4), ("train", 0.8)):
            model.train(mode == "train")
            size = timed_batch(batch, device)
            with _room_for_optimizer(model, device if mode == "train" else None):
                found[mode] = race(probe, mode, precisions[mode], size, start + share * BUDGET_SECONDS, clock=clock)
        kept = _kept(probe, found["train"])
        # Threads wait for the slowest of them: beside other processes all of them together may be slower than one, by
        # far, and that would be measured for a long time.
        counts = [] if others.were_busy() else thread_counts(available)
        for mode in ("frozen", "train"):
            model.train(mode == "train")
            late = partial(_is_after, clock, start + BUDGET_SECONDS)
            by_threads[mode] = _by_threads(probe, mode, found[mode], shared, counts, late)
    return Timings(found["frozen"], found["train"], by_threads["frozen"], by_threads["train"], kept)


def _is_after(clock: Callable[[], float], deadline: float) -> bool:
    return clock() > deadline


@contextmanager
def _room_for_optimizer(model: nn.Module, device: torch.device | None) -> Iterator[None]:
    """Inside, a GPU has no more memory than in training. A CPU's is counted: Linux promises more than there is."""
    ballast = None
    if device is not None and device.type == "cuda":
        size = sum(parameter.nbytes for parameter in model.parameters())
        ballast = torch.empty(COPIES_OF_PARAMETERS * size, dtype=torch.uint8, device=device)
    yield
    del ballast


def _kept(probe: Probe, found: Mapping[Variant, Measured]) -> float:
    if not found or probe.device.type != "cpu":
        return 0.0
    variant = fastest(seconds(found))
    return probe.kept_bytes(probe.images(min(FIRST_BATCH, found[variant].batch), variant), variant.precision)


def _by_threads(
    probe: Probe,
    mode: str,
    found: Mapping[Variant, Measured],
    shared: int,
    counts: Sequence[int],
    late: Callable[[], bool],
) -> dict[int, float]:
    """Seconds an image of the best variant, by number of threads; a GPU's do not depend on it.

    Args:
        probe: Runs the model.
        mode: ``frozen`` or ``train``.
        found: What was measured on ``shared`` threads.
        shared: Half of all.
        counts: To be measured too; none where others would disturb it.
        late: Whether only the most is still to be tried.
    """
    if not found:
        return {}
    best = fastest(seconds(found))
    times = {shared: found[best].seconds}
    run = probe.frozen if mode == "frozen" else probe.train
    for count in reversed(counts) if probe.device.type == "cpu" else ():
        # All of them are tried whatever the time: on two processors, half of them took 188 s a run in place of 121.
        if count != shared and (count == max(counts) or not late()):
            torch.set_num_threads(count)
            # Fewer threads may take as many times as long; more must not.
            limit = min(times.values()) * max(1.0, shared / count)
            taken = probe.seconds(run, probe.images(found[best].batch, best), best.precision, limit)
            if taken is not None:
                times[count] = taken
    return times
