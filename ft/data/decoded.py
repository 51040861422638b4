"""What the loaders ask of a place where decoded images are kept; ``ft.cache.decoded`` is one."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ft.data.transforms import EvaluationTransform


class Decoded(Protocol):
    """Plain views of the images of one split, ``(C, H, W)`` ``uint8`` each."""

    def get(self, view: EvaluationTransform, index: int, decode: Callable[[], Tensor]) -> Tensor:
        """One image; decoded, and kept from then on, where it is not there yet. What ``decode`` raises is raised."""
        ...

    def settled(self, view: EvaluationTransform) -> bool:
        """Whether every image is kept, but for those that could not be read."""
        ...

    def missing(self, view: EvaluationTransform, positions: Sequence[int]) -> set[int]:
        """Those of some images that are not kept, or are damaged."""
        ...

    def gather(self, view: EvaluationTransform, index: Tensor, device: torch.device) -> Tensor:
        """``(B, C, H, W)``: on the device if all images are kept there, else on the CPU. Missing ones are anything.

        Args:
            view: Which view of them.
            index: ``(B,)`` their positions.
            device: Where they are wanted.
        """
        ...
