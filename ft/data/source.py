"""A data set before any task or model has looked at it: named splits of images and raw labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from ft.data.images import array_to_image, open_image


class Images(Protocol):
    """Anything that gives the image at a position; raises ``UnreadableImage`` for one that cannot be read."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Image.Image: ...


@dataclass(frozen=True)
class FileImages:
    """Images read from disk when they are asked for."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Image.Image:
        return open_image(self.paths[position])


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory: ``(N, H, W)`` or ``(N, H, W, 3)`` ``uint8``."""

    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, position: int) -> Image.Image:
        return array_to_image(self.pixels[position])


@dataclass(frozen=True)
class Chosen:
    """Some of the images of another collection, in the order of ``positions``."""

    images: Images
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Image.Image:
        return self.images[int(self.positions[position])]


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        images: The ``N`` images.
        labels: ``(N,)`` class names as strings, or ``(N, K)`` floats (label columns, values to predict).
        names: ``N`` names for people and files: paths relative to the root, or ``digits/17``.
    """

    images: Images
    labels: np.ndarray
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, positions: np.ndarray) -> "Split":
        """The split that holds only ``positions``, in their order."""
        return Split(
            Chosen(self.images, positions),
            self.labels[positions],
            [self.names[int(position)] for position in positions],
        )


class Bad(NamedTuple):
    """An image that cannot be read.

    Attributes:
        name: As in ``Split.names``.
        why: In one line.
        path: Its file; ``None`` where it has none of its own.
    """

    name: str
    why: str
    path: str | None


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        splits: ``train``, ``val`` and, if there is one, ``test``.
        classes: Class names in the data set's own order; empty where the labels themselves say.
        columns: Names of the ``K`` label columns, where the labels are columns.
        in_memory: Whether images cost no decoding, so that workers would only be in the way.
        bad: Images that were left out.
    """

    splits: dict[str, Split]
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    in_memory: bool = False
    bad: list[Bad] = field(default_factory=list)

    def with_splits(self, splits: dict[str, Split]) -> "Source":
        return replace(self, splits=splits)
