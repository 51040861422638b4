"""The loaders: which images, in which order, in which batches, on how many workers."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS
from torch import Tensor
from torch.utils.data import DataLoader

from ft.data.batch import Batch
from ft.data.dataset import ImageDataset, collate
from ft.data.randomness import derive_seed
from ft.data.sampler import EpochBatchSampler, EvaluationBatchSampler, Key, Progress
from ft.data.source import Images
from ft.data.transforms import Transform
from ft.data.whole_set import WholeSetLoader
from ft.errors import require

# Of a pass that computes what is kept: rows then do not depend on the batch size of training.
VIEW_BATCH = 32


@dataclass(frozen=True)
class LoaderOptions:
    """How batches are made.

    Attributes:
        batch_size: Images a batch and process.
        num_workers: Decoding processes; ``auto`` is none for images in memory, else one a spare processor, at most 4.
        balanced: Draws every class equally often, with replacement.
        full_batch: One training step sees the whole training set, in its own order.
    """

    batch_size: int
    num_workers: int | str = "auto"
    balanced: bool = False
    full_batch: bool = False

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "data.batch_size", "must be at least 1", self.batch_size)
        workers = self.num_workers
        valid = workers == "auto" or (isinstance(workers, int) and workers >= 0)
        require(valid, "data.num_workers", "must be auto, or 0 or more", workers)


@dataclass(frozen=True)
class EncodedSplit:
    """A split whose labels a task has turned into tensors."""

    images: Images
    targets: Tensor
    names: Sequence[str]


class BatchSource(Protocol):
    """Gives batches without decoding an image."""

    def batch(self, keys: Sequence[Key]) -> Batch: ...


class LateLoader:
    """A loader that decides where its batches come from when the first one is asked for.

    Lightning makes the iterator of a resumed run before it has restored the epoch, and workers would begin with the
    wrong one at once.

    Args:
        loader: Decodes images.
        instead: What gives the same batches, if there is something now.
    """

    def __init__(self, loader: DataLoader[Batch], instead: Callable[[], BatchSource | None]) -> None:
        self.loader = loader
        self.instead = instead

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        source = self.instead()
        if source is None:
            yield from self.loader
        else:
            members: Any = self.loader.batch_sampler
            for keys in members:
                yield source.batch(keys)


class DataModule(LightningDataModule):
    """Loaders of the splits ``train``, ``val`` and, if there is one, ``test``.

    Args:
        splits: By name.
        train_transform: For ``train``; plugins have folded theirs in.
        eval_transform: For every other split.
        options: Of the loaders.
        seed: Of the order and of every random view.
        in_memory: Images cost no decoding.

    Attributes:
        instead: Asked at the start of every pass over ``train`` and ``val``: what gives its batches without decoding.
    """

    def __init__(
        self,
        splits: dict[str, EncodedSplit],
        *,
        train_transform: Transform,
        eval_transform: Transform,
        options: LoaderOptions,
        seed: int,
        in_memory: bool,
    ) -> None:
        super().__init__()
        self.splits = splits
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.options = options
        self.seed = seed
        self.num_workers = num_workers(options.num_workers, in_memory=in_memory)
        self.instead: Callable[[str], BatchSource | None] = lambda split: None

    def train_dataloader(self) -> TRAIN_DATALOADERS:
        if self.options.full_batch:
            return WholeSetLoader(self._evaluation_loader("train"), len(self.splits["train"].targets))
        targets = self.splits["train"].targets
        sampler = EpochBatchSampler(
            len(targets),
            self.options.batch_size,
            seed=self.seed,
            progress=self._progress,
            weights=class_balance(targets) if self.options.balanced else None,
            rank=self._rank,
            world_size=self._world_size,
        )
        return LateLoader(self._loader("train", self.train_transform, sampler), partial(self.instead, "train"))

    def val_dataloader(self) -> EVAL_DATALOADERS:
        return LateLoader(self._evaluation_loader("val"), partial(self.instead, "val"))

    def test_dataloader(self) -> EVAL_DATALOADERS:
        return self._evaluation_loader("test")

    def evaluation_loader(self, split: str) -> DataLoader[Batch]:
        """Every image of a split once, in order, as evaluation sees it."""
        return self._evaluation_loader(split)

    def view_loader(self, split: str, view: int, transform: Transform) -> DataLoader[Batch]:
        """Every image of a split once, in order, in batches of one size on every machine.

        Args:
            split: Its name.
            view: Takes the place of the epoch in what the transform draws from.
            transform: Pillow image to ``(C, H, W)`` ``uint8``.
        """
        size = len(self.splits[split].targets)
        batches = [
            [(view, position) for position in range(start, min(start + VIEW_BATCH, size))]
            for start in range(0, size, VIEW_BATCH)
        ]
        return self._loader(split, transform, batches, persistent=False)

    def sample_loader(self, split: str, num_images: int, *, num_workers: int = 0) -> DataLoader[Batch]:
        """A random sample of a split, as evaluation sees it: the same in every process and whenever it is asked for.

        Args:
            split: Its name.
            num_images: At most; all of them come in a random order too.
            num_workers: Decoding processes.
        """
        size = len(self.splits[split].targets)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(derive_seed(self.seed, "sample", split)))
        chosen = order[:num_images].tolist()
        batches = [
            [(0, position) for position in chosen[start : start + self.options.batch_size]]
            for start in range(0, len(chosen), self.options.batch_size)
        ]
        return self._loader(split, self.eval_transform, batches, num_workers=num_workers)

    def _evaluation_loader(self, split: str) -> DataLoader[Batch]:
        sampler = EvaluationBatchSampler(
            len(self.splits[split].targets), self.options.batch_size, rank=self._rank, world_size=self._world_size
        )
        return self._loader(split, self.eval_transform, sampler)

    def _loader(
        self,
        split: str,
        transform: Transform,
        sampler: Any,
        *,
        num_workers: int | None = None,
        persistent: bool = True,
    ) -> DataLoader[Batch]:
        part = self.splits[split]
        workers = self.num_workers if num_workers is None else num_workers
        loader: DataLoader[Any] = DataLoader(
            ImageDataset(part.images, part.targets, transform, seed=self.seed),
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=ignore_ctrl_c,
            # The loader draws a seed for its workers that nothing here uses: not from the global generator.
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
            # Each item carries its epoch, so workers need not be made anew for every one.
            persistent_workers=persistent and workers > 0,
        )
        return loader

    def _progress(self) -> Progress:
        """Asked when the first batch of an epoch is: of a run that was resumed inside it, the first still to come."""
        assert self.trainer is not None
        return Progress(self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1


def num_workers(asked: int | str, *, in_memory: bool, cpus: Callable[[], int | None] = os.cpu_count) -> int:
    """Workers to start. The result of a run does not depend on it, only its speed."""
    if isinstance(asked, int):
        return asked
    return 0 if in_memory else min(4, max(1, (cpus() or 1) - 1))


def ignore_ctrl_c(worker: int) -> None:
    """A terminal sends Ctrl-C to the workers too; they are needed for the batch that is still finished."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def class_balance(targets: Tensor) -> Tensor:
    """``(N,)`` sampling weights that give every class the same share.

    Raises:
        UserError: ``targets`` are not class numbers.
    """
    require(targets.ndim == 1 and not targets.is_floating_point(), "data.balanced", "needs task=classification", True)
    return (1 / targets.bincount().clamp(min=1).double())[targets]
