"""Which images make up which batch, from (seed, epoch) alone.

    epoch e:  order = permutation(seed, e)       the same on every rank
              batch b of rank r = order[b * B * R + r * B : ... + B]

Each item handed to the workers is ``(epoch, position)``, so that ``__getitem__`` can draw from (seed, epoch, index)
and 0, 2 or 4 workers agree. The epoch is asked for when the first batch is: Lightning never tells it to a custom batch
sampler, and makes the iterator of a resumed run before it knows the epoch itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler

from ft.data.randomness import derive_seed

Key = tuple[int, int]


@dataclass
class Progress:
    """Where training stands: ``epoch``, and how many of its batches are done."""

    epoch: int
    batches: int


class EpochBatchSampler(Sampler[list[Key]]):
    """Training batches in an order that only depends on the seed and the epoch.

    Args:
        size: Number of images.
        batch_size: Images a batch and rank.
        seed: Of the order.
        progress: Asked when an iteration starts: which epoch it is, and how many of its batches are done already,
            as after resuming inside an epoch.
        shuffle: Off keeps the order of the data set.
        weights: ``(size,)`` sampling weights; images are then drawn with replacement.
        drop_last: Leaves out a last batch that is not full.
        rank: Of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        progress: Callable[[], Progress],
        shuffle: bool = True,
        weights: Tensor | None = None,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.progress = progress
        self.shuffle = shuffle
        self.weights = weights
        # A set smaller than one batch would otherwise train on nothing.
        self.drop_last = drop_last and size >= batch_size * world_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size * self.world_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> list[int]:
        """All positions in the order of ``epoch``."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        if self.weights is not None:
            return torch.multinomial(self.weights, self.size, replacement=True, generator=generator).tolist()
        return torch.randperm(self.size, generator=generator).tolist() if self.shuffle else list(range(self.size))

    def __iter__(self) -> Iterator[list[Key]]:
        start = self.progress()
        epoch = start.epoch
        order = self.order(epoch)
        global_batch = self.batch_size * self.world_size
        for batch in range(start.batches, len(self)):
            members = order[batch * global_batch : (batch + 1) * global_batch]
            if len(members) < global_batch:
                # Every rank needs a share of the last batch: shared evenly, started over where it does not divide.
                share = -(-len(members) // self.world_size)
                members = (members + order)[: share * self.world_size]
            share = len(members) // self.world_size
            yield [(epoch, position) for position in members[self.rank * share : (self.rank + 1) * share]]


class EvaluationBatchSampler(Sampler[list[Key]]):
    """Every image once, in order; rank ``r`` of ``R`` takes every ``R``-th. Nothing is repeated to fill up.

    All ranks have equally many batches, where each has an image for every one of them: a pass through a model that is
    divided among processes, or whose statistics they share, is made by all of them together.
    """

    def __init__(self, size: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.positions = range(rank, size, world_size)
        self.batch_size = batch_size
        most = -(-size // world_size)
        self.num_batches = min(-(-most // batch_size), len(self.positions))

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(self.num_batches):
            yield [(0, position) for position in self.positions[self._end(batch - 1) : self._end(batch)]]

    def _end(self, batch: int) -> int:
        # An image is left for each of the batches that follow.
        later = self.num_batches - 1 - batch
        return min((batch + 1) * self.batch_size, len(self.positions) - later)
