"""A split as the loader sees it: decode, transform with derived randomness, collate what could be read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ft.data.batch import Batch
from ft.data.images import UnreadableImage
from ft.data.randomness import seeded
from ft.data.sampler import Key
from ft.data.source import Images
from ft.data.transforms import Transform


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of an image that could not be decoded."""

    index: int
    why: str


Item = tuple[Tensor, Tensor, int] | Unreadable


class ImageDataset(Dataset[Item]):
    """Images with their targets.

    Args:
        images: Where pixels come from.
        targets: ``(N,)`` or ``(N, K)``, as the task encodes them.
        transform: Pillow image to ``(C, H, W)`` ``uint8``.
        seed: Item ``(epoch, index)`` draws from (seed, epoch, index), whichever process computes it.
    """

    def __init__(self, images: Images, targets: Tensor, transform: Transform, *, seed: int) -> None:
        self.images = images
        self.targets = targets
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        try:
            image = self.images[index]
        except UnreadableImage as error:
            return Unreadable(index, str(error))
        with seeded(self.seed, "view", epoch, index):
            return self.transform(image), self.targets[index], index


def collate(items: Sequence[Item]) -> Batch:
    """Stacks the readable items; the others are listed in ``failures``."""
    good = [item for item in items if not isinstance(item, Unreadable)]
    failures = tuple((item.index, item.why) for item in items if isinstance(item, Unreadable))
    if not good:
        return Batch(torch.empty(0), torch.empty(0), torch.empty(0, dtype=torch.long), failures)
    images, targets, index = zip(*good, strict=True)
    return Batch(torch.stack(images), torch.stack(targets), torch.tensor(index), failures)
