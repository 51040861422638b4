"""A split as the loader sees it: decode, transform with derived randomness, collate what could be read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ft.data.batch import Batch
from ft.data.decoded import Decoded
from ft.data.images import UnreadableImage
from ft.data.randomness import seeded
from ft.data.sampler import Key
from ft.data.source import Images
from ft.data.transforms import Transform, in_two_steps, is_plain


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
        decoded: Keeps plain views of these images; what comes out is the same, bit for bit.
    """

    def __init__(
        self, images: Images, targets: Tensor, transform: Transform, *, seed: int, decoded: Decoded | None = None
    ) -> None:
        self.images = images
        self.targets = targets
        self.transform = transform
        self.seed = seed
        self.decoded = decoded

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        view, change = in_two_steps(self.transform)
        try:
            first = self._first_step(view, index)
            with seeded(self.seed, "view", epoch, index):
                pixels = first()
                return change(pixels) if change else pixels, self.targets[index], index
        except UnreadableImage as error:
            return Unreadable(index, str(error))

    def _first_step(self, view: Transform, index: int) -> Callable[[], Tensor]:
        """Reads an image, and gives what makes its view, which may draw random numbers."""
        if self.decoded is not None and is_plain(view):
            pixels = self.decoded.get(view, index, lambda: view(self.images[index]))
            return lambda: pixels
        image = self.images[index]
        return lambda: view(image)

    def needs_no_decoding(self) -> bool:
        """Whether a pass that begins now finds all its images as they are to be."""
        view, change = in_two_steps(self.transform)
        # Asked first, so that this process makes the place, or says once that it cannot, before its workers start.
        kept = self.decoded is not None and is_plain(view) and self.decoded.settled(view)
        return kept and change is None

    def gather(self, keys: Sequence[Key], device: torch.device) -> Batch:
        """What ``collate`` makes of these items, without making each of them.

        Args:
            keys: Of the items, as far as ``needs_no_decoding``.
            device: Images are there already where all of them are kept there.
        """
        view, _ = in_two_steps(self.transform)
        assert self.decoded is not None
        assert is_plain(view)
        positions = [index for _, index in keys]
        again = {index: self[0, index] for index in self.decoded.missing(view, positions)}
        items = [again.get(index) for index in positions]
        failures = tuple((item.index, item.why) for item in items if isinstance(item, Unreadable))
        good = [index for index, item in zip(positions, items, strict=True) if not isinstance(item, Unreadable)]
        index = torch.tensor(good, dtype=torch.long)
        if not good:
            return Batch(torch.empty(0), torch.empty(0), index, failures)
        images = self.decoded.gather(view, index, device)
        for row, position in enumerate(good):
            # Whether it could be kept or not: what was decoded is right.
            if isinstance(item := again.get(position), tuple):
                images[row] = item[0]
        return Batch(images, self.targets[index], index, failures)


def collate(items: Sequence[Item]) -> Batch:
    """Stacks the readable items; the others are listed in ``failures``."""
    good = [item for item in items if not isinstance(item, Unreadable)]
    failures = tuple((item.index, item.why) for item in items if isinstance(item, Unreadable))
    if not good:
        return Batch(torch.empty(0), torch.empty(0), torch.empty(0, dtype=torch.long), failures)
    images, targets, index = zip(*good, strict=True)
    return Batch(torch.stack(images), torch.stack(targets), torch.tensor(index), failures)
