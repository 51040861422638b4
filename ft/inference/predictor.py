"""Pixels to logits, whatever computes them: a run's own model, or a file that was exported from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ft.data.transforms import EvaluationTransform
from ft.inference.reading import Reading
from ft.input_spec import InputSpec


@dataclass(frozen=True)
class Predictor:
    """What prediction and serving need, and nothing of how the model was trained.

    Attributes:
        spec: Preprocessing. Every image goes through ``transform`` and nothing else.
        reading: What the logits mean.
        run: ``(B, C, H, W)`` ``uint8`` of ``transform`` to ``(B, K)`` float logits on the CPU.
        embed: The same to ``(B, F)`` pooled features; ``None`` where the format has none.
        model: The network itself, normalised images to logits, in eval mode; ``None`` where it is not torch's.
        origin: Where it is from, for people: the run, or the exported folder.
        card: Plain facts that came with it: backbone, origin of the weights, metrics.
    """

    spec: InputSpec
    reading: Reading
    run: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor] | None
    model: Any
    origin: str
    card: dict[str, Any]

    @property
    def transform(self) -> EvaluationTransform:
        """Pillow image to ``(C, H, W)`` ``uint8``: the one that validation used."""
        return EvaluationTransform(self.spec)
