"""Batches of a split: decoded by worker processes for as long as images have to be decoded, gathered afterwards."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from ft.data.batch import Batch
from ft.data.dataset import ImageDataset, collate
from ft.data.sampler import Key
from ft.data.workers import (
    Batches,
    Handed,
    begin_worker,
    lost_workers,
    signals_held,
    told_of,
    unanswered,
    without_sigchld,
)
from ft.errors import WorkersLost

# Seconds between two looks whether the workers live.
LOOK_EVERY = 1


class Hanging(RuntimeError):
    """No batch has come for too long."""


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
        timeout: Seconds without a batch after which the workers count as hanging; 0: never.
        names: Of the images, for messages.

    Attributes:
        decoding: Has the worker processes; ``None`` where there is nothing to decode.
        restarts: How often they were started again after one of them had died.
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
        timeout: float = 0,
        names: Sequence[str] = (),
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.num_workers = num_workers
        self.persistent = persistent
        self.device = device
        self.instead = instead
        self.timeout = timeout
        self.names = names
        self.restarts = 0
        self._handed = Handed(batches)
        self.decoding: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        source = self.instead()
        if source is None and self.dataset.needs_no_decoding():
            source = Gathered(self.dataset, self.device())
        if source is None:
            yield from self._decoded()
            return
        # Worker processes of earlier passes end: they would hold memory for nothing.
        self.decoding = None
        for keys in self.batches:
            yield source.batch(keys)

    def _decoded(self) -> Iterator[Batch]:
        """Batches of the workers; they are started again once if one dies, and go on with the batch that is missing.

        Raises:
            WorkersLost: A second one has died, or they hang.
        """
        self._handed.begin()
        while True:
            self.decoding = self.decoding or self._workers()
            running = None
            try:
                with without_sigchld(), signals_held():
                    running = iter(self.decoding)
                while (batch := self._wait(running)) is not None:
                    self._handed.answered()
                    yield batch
                return
            except (RuntimeError, OSError, EOFError) as error:
                lost = lost_workers(running or self.decoding._iterator)
                hangs = isinstance(error, Hanging)
                if not lost and not hangs:
                    raise
                running = running or self.decoding._iterator
                files = [name for ahead in unanswered(running, lost) for name in self._files(ahead)]
                told = told_of(lost, self.num_workers, files, timeout=self.timeout)
            self._end_workers(running)
            if hangs or self.restarts:
                raise WorkersLost(told)
            self.restarts += 1
            print(f"{told.splitlines()[0]} They are started again, once.", file=sys.stderr, flush=True)

    def _files(self, ahead: int) -> list[str]:
        """Those of a batch that has not come."""
        return [self.names[index] if self.names else str(index) for _, index in self._handed.open_batch(ahead)]

    def _wait(self, running: Iterator[Batch]) -> Batch | None:
        """The next batch; ``None`` after the last."""
        began = time.monotonic()
        while True:
            try:
                return next(running, None)
            except RuntimeError as error:
                if "DataLoader timed out" not in str(error):
                    raise
            # torch has looked whether all workers live.
            if self.timeout and time.monotonic() - began > self.timeout:
                raise Hanging

    def _end_workers(self, running: Any) -> None:
        """Also those that hang, or ignore signals."""
        running = running or (self.decoding._iterator if self.decoding is not None else None)
        for worker in getattr(running, "_workers", ()):
            worker.kill()
        self.decoding = None

    def _workers(self) -> DataLoader[Any]:
        batches: Any = self._handed
        return DataLoader(
            self.dataset,
            batch_sampler=batches,
            timeout=LOOK_EVERY if self.num_workers else 0,
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=begin_worker,
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
