"""``trainer.autotune``: measured once for a machine, a model and an input size, remembered, decided anew for each run.

What is kept between runs are seconds, not decisions: those depend on the run too (its length, its data, what the user
has said), and are rules of ``ft.machine.decide``. ``~/.cache/ft/machine/<key>/about.json`` can be read by people.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ft.input_spec import InputSpec
from ft.machine.choice import Choice
from ft.machine.decide import Variant, batch_that_fits, earns_its_compilation, fastest, processes
from ft.machine.memory import fingerprint, machine_facts, recall, remember
from ft.machine.race import measure, timed_batch
from ft.machine.system import Others, compute_threads, free_memory, has_compiler
from ft.machine.timings import Measured, Timings, seconds
from ft.processors import processors


@dataclass(frozen=True)
class Wishes:
    """What the user has said, and autotune leaves alone; ``None`` is nothing.

    Attributes:
        precision: ``trainer.precision``, in Lightning's words.
        workers: ``data.num_workers``.
        threads: ``OMP_NUM_THREADS``.
    """

    precision: str | None = None
    workers: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Job:
    """What the run will do.

    Attributes:
        batch_size: Images a batch.
        accumulate: Batches an optimizer step.
        decode: Seconds to read and transform an image, in one process.
        num_images: Training images.
        whole_model_steps: Batches that will go through the whole model, backwards too.
        only_fp32: Training is done in 32 bits whatever is faster, and why; empty where it is not.
    """

    batch_size: int
    accumulate: int
    decode: float
    num_images: int
    whole_model_steps: int
    only_fp32: str = ""


def autotune(
    model: nn.Module,
    spec: InputSpec,
    *,
    device: torch.device,
    job: Job,
    wishes: Wishes = Wishes(),
    measuring: Callable[..., Timings] = measure,
) -> Choice:
    """Measures, or remembers, and decides.

    Args:
        model: Images to logits; it is the same afterwards, bit for bit.
        spec: Shape of its images.
        device: Where training will be.
        job: What the run will do.
        wishes: What the user has said.
        measuring: Takes the place of the probe in tests.
    """
    available = compute_threads()
    facts = machine_facts(device, available) | {
        "model": fingerprint(model),
        "input": [spec.channels, spec.height, spec.width],
        "batch": timed_batch(job.batch_size, device),
    }
    timings, source = recall(facts), "remembered"
    if timings is None:
        others, start = Others(), time.perf_counter()
        on_gpu_without = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        both = ("fp32",) if on_gpu_without else ("fp32", "bf16")
        timings = measuring(
            model,
            spec,
            device=device,
            batch=job.batch_size,
            precisions={"frozen": both, "train": both},
            available=available,
        )
        source = f"measured in {time.perf_counter() - start:.1f} s"
        remember(facts, timings, busy=others.were_busy())
    parameter_bytes = sum(parameter.nbytes for parameter in model.parameters())
    return decide(
        timings,
        job,
        wishes,
        device=device.type,
        threads=available,
        cores=processors(),
        source=source,
        parameter_bytes=parameter_bytes,
        # A GPU has been tried with the real batch.
        free=free_memory(device) if device.type == "cpu" else None,
        can_compile=has_compiler(device),
    )


def decide(
    timings: Timings,
    job: Job,
    wishes: Wishes,
    *,
    device: str,
    threads: int,
    cores: int,
    source: str,
    parameter_bytes: int,
    free: int | None,
    can_compile: bool,
) -> Choice:
    """From seconds to a choice; each decision with its reason.

    Args:
        timings: Of this model on this machine.
        job: What the run will do.
        wishes: What the user has said.
        device: ``cpu`` or ``cuda``.
        threads: At most, for computing.
        cores: For computing and decoding together.
        source: Where the timings are from.
        parameter_bytes: Of the model.
        free: Bytes; ``None`` where that is unknown or was tried.
        can_compile: The compiler's own tools are there.
    """
    said = wishes.precision
    held = "fp32" if job.only_fp32 else None
    frozen = fastest(seconds(timings.frozen), precision=said and autocast_of(said))
    train = fastest(seconds(timings.train), precision=autocast_of(said) if said else held)
    mine = f"trainer.precision={said}" if said else ""

    def way(decode: float, forward: Mapping[int, float], workers: int | None) -> tuple[int, int]:
        return processes(
            decode,
            forward or {threads: 1.0},
            processors=cores,
            num_images=job.num_images,
            threads=wishes.threads,
            workers=workers,
        )

    frozen_way = way(job.decode, timings.frozen_threads, wishes.workers)
    train_way = way(job.decode, timings.train_threads, wishes.workers)
    measured = timings.train.get(train, Measured(0.0, 0))
    micro = batch_that_fits(
        job.batch_size,
        tried=measured.limit or job.batch_size,
        bytes_an_image=timings.bytes_an_image,
        parameter_bytes=parameter_bytes,
        free=free,
    )
    step = measured.seconds * job.batch_size
    return Choice(
        device=device,
        frozen_precision=frozen.precision,
        train_precision=said or ("bf16-mixed" if train.precision == "bf16" else "32-true"),
        frozen_channels_last=frozen.channels_last,
        train_channels_last=train.channels_last,
        frozen_threads=frozen_way[0],
        frozen_workers=frozen_way[1],
        train_threads=train_way[0],
        train_workers=train_way[1],
        cached_threads=way(0.0, timings.train_threads, 0)[0],
        micro_batch=micro,
        accumulate=job.accumulate * (job.batch_size // micro),
        whole=micro == job.batch_size,
        compile=earns_its_compilation(
            device, steps=job.whole_model_steps, seconds_a_step=step, can_compile=can_compile
        ),
        why={
            "frozen": _why_precision(timings.frozen, mine, source),
            "train": _why_precision(timings.train, mine or job.only_fp32, source),
            "threads": _why_threads(timings, job, wishes),
            "batch": _why_batch(timings, job, micro, free),
            "compile": _why_compile(device, job, step, can_compile),
        },
    )


def autocast_of(precision: str) -> str | None:
    """``bf16`` or ``fp32`` for a precision in Lightning's words; ``None`` for 16 bits, where either will do."""
    if "bf16" in precision:
        return "bf16"
    return None if precision.startswith("16") else "fp32"


def _why_precision(found: Mapping[Variant, Measured], said: str, source: str) -> str:
    numbers = ", ".join(f"{variant} {1 / each.seconds:.0f}" for variant, each in found.items())
    return "; ".join(part for part in (said, f"images/s: {numbers}" if numbers else "not measured", source) if part)


def _why_threads(timings: Timings, job: Job, wishes: Wishes) -> str:
    def milliseconds(times: Mapping[int, float]) -> str:
        return ", ".join(f"{1000 * each:.1f} on {count}" for count, each in sorted(times.items())) or "not measured"

    said = {"data.num_workers": wishes.workers, "OMP_NUM_THREADS": wishes.threads}
    parts = [f"{name}={value}" for name, value in said.items() if value is not None]
    parts.append(f"ms an image: decoding {1000 * job.decode:.1f}")
    parts.append(f"frozen forward {milliseconds(timings.frozen_threads)}")
    parts.append(f"training {milliseconds(timings.train_threads)}")
    return "; ".join(parts)


def _why_batch(timings: Timings, job: Job, micro: int, free: int | None) -> str:
    cut = job.batch_size // micro
    reason = "it fits" if cut == 1 else f"{job.batch_size} do not fit: {cut} times {micro}"
    if timings.bytes_an_image and free is not None:
        reason += f"; {timings.bytes_an_image / 2**20:.0f} MiB an image, {free / 2**30:.1f} GiB free"
    return reason


def _why_compile(device: str, job: Job, step: float, can_compile: bool) -> str:
    if device == "cpu":
        return "on a CPU it takes minutes and gains nothing"
    if not can_compile:
        return "its compiler is not installed"
    return f"{job.whole_model_steps} steps of {1000 * step:.0f} ms through the whole model"
