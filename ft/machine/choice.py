"""What was chosen for a run on this machine. It is part of the run's config: a resumed run does the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from ft.errors import UserError
from ft.machine.decide import divisors


@dataclass(frozen=True)
class Choice:
    """How a run computes.

    Frozen: forward passes through stages that do not train. Training: forward and backward.

    Attributes:
        device: What it was measured on: ``cpu`` or ``cuda``.
        frozen_precision: ``bf16`` or ``fp32``.
        train_precision: In Lightning's words: ``bf16-mixed``, ``32-true`` ...
        frozen_channels_last: How images lie in memory; ``False`` is contiguous.
        train_channels_last: Likewise.
        frozen_threads: Compute threads of the frozen forward, fed by images that are decoded meanwhile.
        frozen_workers: Decoding processes of it; 0 decodes in the process itself.
        train_threads: Compute threads of training, fed likewise.
        train_workers: Decoding processes of it.
        cached_threads: Compute threads where nothing is decoded: training on stored activations.
        micro_batch: Images that go through at once.
        accumulate: Micro batches an optimizer step.
        whole: Whether ``micro_batch`` is the batch that was asked for.
        compile: Whether the whole model is worth compiling.
        why: One line with the measured numbers for each decision, by its name.
    """

    device: str
    frozen_precision: str
    train_precision: str
    frozen_channels_last: bool
    train_channels_last: bool
    frozen_threads: int
    frozen_workers: int
    train_threads: int
    train_workers: int
    cached_threads: int
    micro_batch: int
    accumulate: int
    whole: bool
    compile: bool
    why: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and text, for the run's config."""
        return {**asdict(self), "why": dict(self.why)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave.

        Raises:
            UserError: Something is missing, unknown or of another kind.
        """
        kinds = {field.name: field.type for field in fields(cls)}
        if unlike := sorted(kinds.keys() ^ values.keys()):
            raise UserError(f"trainer.tuned.{unlike[0]} is missing or unknown. Remove trainer.tuned to measure anew.")
        for name, kind in kinds.items():
            if kind in (int, str, bool) and type(values[name]) is not kind:
                raise UserError(f"trainer.tuned.{name} must be {kind.__name__}, got {values[name]!r}.")
        return cls(**values)


def choice_from_config(config: Mapping[str, Any]) -> Choice | None:
    """The choice that a run's config holds; ``None`` where it holds none or ``trainer.autotune`` is off.

    Args:
        config: The whole config.
    """
    trainer = config["trainer"]
    # Runs that were begun before there was autotune have neither key, and go on without.
    if not trainer.get("autotune") or trainer.get("tuned") is None:
        return None
    return Choice.from_dict(trainer["tuned"])


def for_batch(choice: Choice, batch_size: int, accumulate: int) -> Choice:
    """The same choice for another batch, which still goes through in pieces no larger than were found to fit.

    Args:
        choice: Of a run that goes on.
        batch_size: ``data.batch_size`` as it is now.
        accumulate: ``trainer.accumulate_grad_batches`` as it is now.
    """
    if choice.micro_batch * choice.accumulate == batch_size * accumulate and batch_size % choice.micro_batch == 0:
        return choice
    fits = batch_size if choice.whole else choice.micro_batch
    micro = next(each for each in divisors(batch_size) if each <= fits)
    return replace(choice, micro_batch=micro, accumulate=accumulate * (batch_size // micro))


def describe(choice: Choice) -> list[str]:
    """One line for each decision, for people."""
    frozen = f"{choice.frozen_precision}, {_layout(choice.frozen_channels_last)}"
    train = f"{choice.train_precision}, {_layout(choice.train_channels_last)}"
    batch = f"{choice.micro_batch}" + (f" x {choice.accumulate}" if choice.accumulate > 1 else "")
    rows = {
        "frozen forward": (frozen, choice.why["frozen"]),
        "training": (train, choice.why["train"]),
        "processors": (
            f"frozen forward {_processes(choice.frozen_threads, choice.frozen_workers)}, "
            f"training {_processes(choice.train_threads, choice.train_workers)}, "
            f"stored activations {_processes(choice.cached_threads, 0)}",
            choice.why["threads"],
        ),
        "batch": (batch, choice.why["batch"]),
        "compile": ("yes" if choice.compile else "no", choice.why["compile"]),
    }
    return [f"{name} {value} ({why})" for name, (value, why) in rows.items()]


def _layout(channels_last: bool) -> str:
    return "channels last" if channels_last else "contiguous"


def _processes(threads: int, workers: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}" + (f" + {workers} decoding" if workers else "")
