"""Whether an exported file computes what the trained model computes, on real images, in its own runtime."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ft.deploy.outputs import Outputs
from ft.inference.reading import LINEAR

BATCH = 16
# Of single precision's own grid: numbers far from 0, such as years, lie coarser than any tolerance of their spread.
ROUNDINGS = 4


@dataclass(frozen=True)
class Check:
    """An exported file against the trained model.

    Attributes:
        images: How many.
        source: Of which split or folder.
        max_difference: Largest absolute difference of an output.
        scale: Largest absolute output that was expected.
        allowed: Largest difference that passes.
        agreement: Share of images with the same class, or the same set of labels; ``None`` for numbers.
        runtime: What computed it.
    """

    images: int
    source: str
    max_difference: float
    scale: float
    allowed: float
    agreement: float | None
    runtime: str

    @property
    def passed(self) -> bool:
        return self.max_difference <= self.allowed

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        same = "" if self.agreement is None else f", the same answer on {self.agreement:.2%}"
        return (
            f"{self.images} images of {self.source} in {self.runtime}: largest difference {self.max_difference:.2g} "
            f"(allowed {self.allowed:.2g}){same}"
        )


def in_batches(run: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """``(N, K)``: the first image alone, the others in batches, so that both kinds of batch are tried."""
    return torch.cat([run(pixels[:1]), *(run(part) for part in pixels[1:].split(BATCH) if len(part))])


def compare(logits: Tensor, found: Tensor, outputs: Outputs, *, tolerance: float, source: str, runtime: str) -> Check:
    """Compares what was exported with what was trained.

    Args:
        logits: ``(N, K)`` of the trained model.
        found: ``(N, K)`` of the exported file.
        outputs: What the file is to make of the logits.
        tolerance: Allowed difference, as a share of the largest absolute logit, in the logits' own unit; at least of 1.
        source: Of which images, for people.
        runtime: What computed ``found``, for people.
    """
    expected = outputs.of(logits)
    difference = (found.double() - expected).abs()
    scale = expected.abs().max()
    # A difference that is no number passes no comparison.
    worst = float(difference.max()) if bool(difference.isfinite().all()) else float("inf")
    # In the logits' unit: numbers with a large mean would otherwise be allowed more than their spread.
    unit = float(outputs.factor.min())
    allowed = tolerance * max(1.0, float(logits.abs().max())) * unit
    allowed += ROUNDINGS * torch.finfo(torch.float32).eps * float(scale)
    return Check(
        images=len(logits),
        source=source,
        max_difference=worst,
        scale=float(scale),
        allowed=allowed,
        agreement=_agreement(expected, found.double(), outputs),
        runtime=runtime,
    )


def _agreement(expected: Tensor, found: Tensor, outputs: Outputs) -> float | None:
    reading = outputs.reading
    if reading.activation == LINEAR:
        return None
    if reading.task == "multilabel":
        same = (reading.labels(reading.tell(expected)) == reading.labels(reading.tell(found))).all(1)
    else:
        same = expected.argmax(1) == found.argmax(1)
    return float(same.double().mean())
