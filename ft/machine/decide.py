"""The rules: from measured seconds to decisions. Nothing here measures, so that every rule can be tested by hand.

precision       bf16 where it is at least 10 % faster than fp32; for the frozen forward and for training apart
memory format   contiguous where it is at least 10 % faster than channels last
processors      the fewest threads and decoding processes that are within 5 % of the fastest
batch           the largest divisor of the batch whose activations fit; the rest is accumulated
compile         where it saves twice what it costs
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# What is less exact or less usual has to be worth it, and two timings of the same thing differ by some percent.
WORTH = 1.10
NEARLY = 1.05

# Starting a decoding process and filling its queue; a fork of a process that has torch loaded took 0.05 to 0.15 s.
WORKER_SECONDS = 0.3
MAX_WORKERS = 8

# Of the memory that is free now; the rest is for decoded images, validation, other processes.
USABLE_MEMORY = 0.8
# Gradients and two moments of Adam beside the parameters.
COPIES_OF_PARAMETERS = 3
# Gradients of activations live beside them: measured 1.1 to 1.3 times the activations that autograd keeps.
BACKWARD_SHARE = 1.3

# torch.compile on GPUs: gain and seconds are assumptions, not measured here and not looked up. On a CPU it did not pay:
# tf_efficientnet_lite0 in bf16 on one core took 237 s to compile on a busy machine, and then trained 0.90 times as fast
# (14.7 before, 13.2 images/s after), forward 1.06 times.
COMPILE_GAIN = {"cuda": 1.21}
COMPILE_SECONDS = {"cuda": 60.0}


class Variant(NamedTuple):
    """A way to compute."""

    precision: str
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.precision} {'channels_last' if self.channels_last else 'contiguous'}"


def variant_named(name: str) -> Variant:
    """What ``str`` made of a variant.

    Raises:
        ValueError: No variant has this name.
    """
    for precision in ("fp32", "bf16"):
        for channels_last in (True, False):
            if str(Variant(precision, channels_last)) == name:
                return Variant(precision, channels_last)
    raise ValueError(f"{name!r} is not a variant")


def fastest(seconds: Mapping[Variant, float], *, precision: str | None = None) -> Variant:
    """The variant to use: fp32 and channels last, unless another is clearly faster.

    Args:
        seconds: An image, of each that was measured.
        precision: Where the user has said it.
    """
    best: dict[str, Variant] = {}
    for each in ("fp32", "bf16"):
        last, contiguous = Variant(each, True), Variant(each, False)
        if last in seconds or contiguous in seconds:
            clearly = seconds.get(contiguous, float("inf")) * WORTH <= seconds.get(last, float("inf"))
            best[each] = contiguous if clearly else last
    if precision is not None:
        return best.get(precision, Variant(precision, True))
    if "fp32" in best and "bf16" in best:
        clearly = seconds[best["bf16"]] * WORTH <= seconds[best["fp32"]]
        return best["bf16" if clearly else "fp32"]
    return best.get("bf16", best.get("fp32", Variant("fp32", True)))


def seconds_an_image(decode: float, forward: Mapping[int, float], threads: int, workers: int, processors: int) -> float:
    """How long an image takes when it is decoded and computed.

    Without workers one process does both in turn. With them the slower of the two sets the pace, and together they do
    not get more than all processors. Several compute threads beside workers that leave them no processor of their own
    are left out by ``ways``: OpenMP's threads wait for each other, and all of them for the slowest.

    Args:
        decode: Seconds an image in one process.
        forward: Seconds an image, by number of threads.
        threads: Compute threads.
        workers: Decoding processes.
        processors: That this process may use.
    """
    compute = forward[threads]
    if not workers:
        return decode + compute
    return max(compute, decode / workers, (decode + threads * compute) / processors)


def ways(
    forward: Mapping[int, float], processors: int, threads: int | None, workers: int | None
) -> Iterator[tuple[int, int]]:
    """Numbers of threads and workers that are worth a thought.

    Args:
        forward: Seconds an image, by number of threads.
        processors: That this process may use.
        threads: Where the user has said it.
        workers: Where the user has said it.
    """
    for count in range(MAX_WORKERS + 1) if workers is None else (workers,):
        for each in sorted(forward) if threads is None else (threads,):
            own = each == 1 or count == 0 or each + count <= processors
            if own or threads is not None:
                yield each, count


def processes(
    decode: float,
    forward: Mapping[int, float],
    *,
    processors: int,
    num_images: int,
    threads: int | None = None,
    workers: int | None = None,
) -> tuple[int, int]:
    """Compute threads and decoding processes for one kind of pass over the images.

    Args:
        decode: Seconds an image in one process; 0 where nothing is decoded.
        forward: Seconds an image, by number of threads.
        processors: That this process may use.
        num_images: That the pass, or all such passes, will decode: workers take time to start.
        threads: Where the user has said it.
        workers: Where the user has said it.
    """

    def total(way: tuple[int, int]) -> float:
        each = seconds_an_image(decode, forward, *way, processors)
        return each * num_images + (WORKER_SECONDS if way[1] else 0.0) + 0.05 * WORKER_SECONDS * way[1]

    if threads is not None and threads not in forward:
        forward = {**forward, threads: forward[min(forward, key=lambda each: abs(each - threads))]}
    known = list(ways(forward, processors, threads, workers))
    least = min(total(way) for way in known)
    return min((way for way in known if total(way) <= NEARLY * least), key=lambda way: (sum(way), way))


def divisors(batch: int) -> list[int]:
    """Into which a batch can be cut, the largest first."""
    return [each for each in range(batch, 0, -1) if batch % each == 0]


def half(batch: int, now: int) -> int | None:
    """The largest divisor of ``batch`` that is at most half of ``now``; ``None`` below one image."""
    return next((each for each in divisors(batch) if each <= now // 2), None)


def batch_that_fits(batch: int, *, tried: int, bytes_an_image: float, parameter_bytes: int, free: int | None) -> int:
    """The largest divisor of ``batch`` that can be trained in the memory that is free; 1 where none can.

    Args:
        batch: As wished.
        tried: The largest that may be: more was tried and did not fit.
        bytes_an_image: Of activations that autograd keeps.
        parameter_bytes: Of the parameters.
        free: Bytes; ``None`` where the system does not say.
    """
    room = float("inf") if free is None else USABLE_MEMORY * free - COPIES_OF_PARAMETERS * parameter_bytes
    each_takes = bytes_an_image * BACKWARD_SHARE
    return next((each for each in divisors(batch) if each <= tried and each * each_takes <= room), 1)


def earns_its_compilation(device: str, *, steps: int, seconds_a_step: float, can_compile: bool) -> bool:
    """Whether ``torch.compile`` saves at least twice what it costs.

    Args:
        device: ``cpu`` or ``cuda``.
        steps: Training steps of this run that go through the whole model, backwards too.
        seconds_a_step: Of each, uncompiled.
        can_compile: The compiler's own tools are installed.
    """
    if not can_compile or device not in COMPILE_GAIN:
        return False
    saved = steps * seconds_a_step * (1 - 1 / COMPILE_GAIN[device])
    return saved >= 2 * COMPILE_SECONDS[device]


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number, the smaller of the two."""
    return sorted(values)[(len(values) - 1) // 2]
