"""Batches of a split: decoded by worker processes for as long as images have to be decoded, gathered afterwards."""

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from ft.data.batch import Batch
from ft.data.dataset import ImageDataset, collate
from ft.data.sampler import Key


class Batches(Protocol):
    """A sampler: which images make up which batch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Key]]: ...


class BatchSource(Protocol):
    """Gives batches without decoding an image."""

    def batch(self, keys: Sequence[Key]) -> Batch: ...


class Loader:
    """A loader that decides where its batches come from when the first one is asked for.

    Lightning makes the iterator of a resumed run before it has restored the epoch, and workers would begin with the
    wrong one at once.

    Args:
        dataset: Decodes images, or finds them where they are kept.
        batches: In which order.
        num_workers: Decoding processes.
        persistent: They outlive a pass.
        device: Where the model is: batches are gathered there when all images are.
        instead: What gives the same batches, if there is something now.

    Attributes:
        decoding: Has the worker processes; ``None`` where there is nothing to decode.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batches: Batches,
        *,
        num_workers: int,
        persistent: bool,
        device: Callable[[], torch.device],
        instead: Callable[[], BatchSource | None],
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.num_workers = num_workers
        self.persistent = persistent
        self.device = device
        self.instead = instead
        self.decoding: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        source = self.instead()
        if source is None and self.dataset.needs_no_decoding():
            source = Gathered(self.dataset, self.device())
        if source is None:
            self.decoding = self.decoding or self._workers()
            yield from self.decoding
            return
        # Worker processes of earlier passes end: they would hold memory for nothing.
        self.decoding = None
        for keys in self.batches:
            yield source.batch(keys)

    def _workers(self) -> DataLoader[Any]:
        batches: Any = self.batches
        return DataLoader(
            self.dataset,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=ignore_ctrl_c,
            # The loader draws a seed for its workers that nothing here uses: not from the global generator.
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
            # Each item carries its epoch, so workers need not be made anew for every one.
            persistent_workers=self.persistent and self.num_workers > 0,
        )


class Gathered:
    """Batches of images that are kept, each one indexing operation."""

    def __init__(self, dataset: ImageDataset, device: torch.device) -> None:
        self.dataset = dataset
        self.device = device

    def batch(self, keys: Sequence[Key]) -> Batch:
        batch = self.dataset.gather(keys, self.device)
        if self.device.type == "cuda" and batch.images.device.type == "cpu":
            return batch._replace(images=batch.images.pin_memory())
        return batch


def ignore_ctrl_c(worker: int) -> None:
    """A terminal sends Ctrl-C to the workers too; they are needed for the batch that is still finished."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
