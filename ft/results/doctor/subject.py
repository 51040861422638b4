"""What is examined: every image of every split in one row of numbers, its name and its label beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ft.data.source import Images

CLASSIFICATION, MULTILABEL, REGRESSION = "classification", "multilabel", "regression"


@dataclass(frozen=True)
class Part:
    """One split.

    Attributes:
        images: The ``N`` images.
        targets: ``(N,)`` class numbers, or ``(N, K)`` floats.
        names: ``N`` names for people.
    """

    images: Images
    targets: np.ndarray
    names: Sequence[str]


@dataclass(frozen=True)
class Subject:
    """A data set with its labels. A row is an image's position in all splits, one after the other.

    Attributes:
        parts: By split.
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Names of the classes, the label columns or the values.
    """

    parts: Mapping[str, Part]
    task: str
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return sum(len(part.names) for part in self.parts.values())

    def where(self, row: int) -> tuple[str, Part, int]:
        """The split, its images, and the position among them."""
        for name, part in self.parts.items():
            if row < len(part.names):
                return name, part, row
            row -= len(part.names)
        raise IndexError(row)

    def image(self, row: int) -> Image.Image:
        """The picture in full.

        Raises:
            OSError: It cannot be read.
        """
        _, part, position = self.where(row)
        return part.images[position]

    @property
    def splits(self) -> np.ndarray:
        """``(N,)`` names of splits."""
        return np.repeat(list(self.parts), [len(part.names) for part in self.parts.values()])

    @property
    def targets(self) -> np.ndarray:
        """``(N,)`` class numbers, or ``(N, K)`` floats."""
        return np.concatenate([part.targets for part in self.parts.values()])

    def label(self, target: Any) -> str:
        """A target as people write it."""
        if self.task == CLASSIFICATION:
            return self.classes[int(target)]
        if self.task == MULTILABEL:
            return ", ".join(name for name, there in zip(self.classes, target, strict=True) if there > 0) or "none"
        return ", ".join(f"{value:g}" for value in target)
