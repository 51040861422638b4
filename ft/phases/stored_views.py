"""Batches from stored activations: an index gather, no worker and no collation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ft.cache.activations import Stored
from ft.data.batch import Batch
from ft.data.randomness import derive_seed
from ft.data.sampler import Key


def drawn_views(seed: int, epoch: int, num_images: int, num_views: int) -> Tensor:
    """``(N,)`` which stored view of each image an epoch sees."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "views", epoch))
    return torch.randint(num_views, (num_images,), generator=generator)


class StoredViews:
    """The batches of a split, made of what crossed a boundary.

    Args:
        views: At least one.
        targets: ``(N,)`` or ``(N, K)``, of the whole split.
        boundary: Where the activations are from.
        seed: Of which view is drawn.
    """

    def __init__(self, views: Sequence[Stored], targets: Tensor, boundary: str, *, seed: int) -> None:
        self.views = views
        self.targets = targets
        self.boundary = boundary
        self.seed = seed
        self.readable = torch.stack([view.row >= 0 for view in views]).all(0)
        self.why = {at: reason for view in views for at, reason in view.failures}
        self._drawn: tuple[int, Tensor] | None = None

    def batch(self, keys: Sequence[Key]) -> Batch:
        """What the sampler asks for: ``(epoch, position)`` each, all of one epoch."""
        positions = torch.tensor([position for _, position in keys])
        readable = self.readable[positions]
        # What is missing without a reason was not reached in time.
        failures = tuple((at, self.why[at]) for at in positions[~readable].tolist() if at in self.why)
        if not readable.any():
            return Batch(torch.empty(0), torch.empty(0), torch.empty(0, dtype=torch.long), failures)
        positions = positions[readable]
        values = self._gather(positions, keys[0][0])
        images = values[0] if len(values) == 1 else tuple(values)
        return Batch(images, self.targets[positions], positions, failures, self.boundary)  # pyright: ignore[reportArgumentType] -- several tensors only ever meet the suffix

    def _gather(self, positions: Tensor, epoch: int) -> list[Tensor]:
        if len(self.views) == 1:
            return self.views[0].take(positions)
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, drawn_views(self.seed, epoch, len(self.targets), len(self.views))
        chosen = self._drawn[1][positions]
        # One gather a view, then into the order of the batch.
        members = [(chosen == view).nonzero().flatten() for view in range(len(self.views))]
        taken = [self.views[view].take(positions[where]) for view, where in enumerate(members)]
        order = torch.cat(members).argsort()
        return [torch.cat(pieces)[order.to(pieces[0].device)] for pieces in zip(*taken, strict=True)]
