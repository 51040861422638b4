"""The loaders: which images, in which order, in which batches, on how many workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS
from torch import Tensor

from ft.data.dataset import ImageDataset
from ft.data.decoded import Decoded
from ft.data.loader import Batches, BatchSource, Loader
from ft.data.randomness import derive_seed
from ft.data.sampler import EpochBatchSampler, EvaluationBatchSampler, Progress
from ft.data.source import Images
from ft.data.transforms import Transform
from ft.data.whole_set import WholeSetLoader
from ft.errors import require
from ft.processors import processors

Instead = Callable[[], BatchSource | None]

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
        timeout: Seconds without a decoded batch after which the processes count as hanging; 0: never.
    """

    batch_size: int
    num_workers: int | str = "auto"
    balanced: bool = False
    full_batch: bool = False
    timeout: float = 0

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "data.batch_size", "must be at least 1", self.batch_size)
        workers = self.num_workers
        valid = workers == "auto" or (isinstance(workers, int) and workers >= 0)
        require(valid, "data.num_workers", "must be auto, or 0 or more", workers)
        require(self.timeout >= 0, "data.timeout", "must be 0 or more", self.timeout)


@dataclass(frozen=True)
class EncodedSplit:
    """A split whose labels a task has turned into tensors."""

    images: Images
    targets: Tensor
    names: Sequence[str]


class DataModule(LightningDataModule):
    """Loaders of the splits ``train``, ``val`` and, if there is one, ``test``.

    Args:
        splits: By name.
        train_transform: For ``train``; plugins have folded theirs in.
        eval_transform: For every other split.
        options: Of the loaders.
        seed: Of the order and of every random view.
        in_memory: Images cost no decoding.
        decoded: Where decoded images are kept, by split.

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
        decoded: Mapping[str, Decoded],
    ) -> None:
        super().__init__()
        self.splits = splits
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.options = options
        self.seed = seed
        self.num_workers = num_workers(options.num_workers, in_memory=in_memory)
        self.decoded = decoded
        self.instead: Callable[[str], BatchSource | None] = nothing_instead

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
        return self._loader("train", self.train_transform, sampler, instead=lambda: self.instead("train"))

    def val_dataloader(self) -> EVAL_DATALOADERS:
        return self._evaluation_loader("val", instead=lambda: self.instead("val"))

    def test_dataloader(self) -> EVAL_DATALOADERS:
        return self._evaluation_loader("test")

    def evaluation_loader(self, split: str) -> Loader:
        """Every image of a split once, in order, as evaluation sees it."""
        return self._evaluation_loader(split)

    def view_loader(self, split: str, view: int, transform: Transform, *, num_workers: int | None = None) -> Loader:
        """Every image of a split once, in one random order, in batches of one size on every machine.

        A pass that is cut short has then seen a random sample.

        Args:
            split: Its name.
            view: Takes the place of the epoch in what the transform draws from.
            transform: Pillow image to ``(C, H, W)`` ``uint8``.
            num_workers: Decoding processes; ``None`` as for training.
        """
        size = len(self.splits[split].targets)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
        batches = [
            [(view, position) for position in order[start : start + VIEW_BATCH]] for start in range(0, size, VIEW_BATCH)
        ]
        return self._loader(split, transform, batches, num_workers=num_workers, persistent=False)

    def sample_loader(self, split: str, num_images: int, *, num_workers: int = 0) -> Loader:
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

    def _evaluation_loader(self, split: str, instead: Instead = lambda: None) -> Loader:
        sampler = EvaluationBatchSampler(
            len(self.splits[split].targets), self.options.batch_size, rank=self._rank, world_size=self._world_size
        )
        return self._loader(split, self.eval_transform, sampler, instead=instead)

    def _loader(
        self,
        split: str,
        transform: Transform,
        sampler: Batches,
        *,
        num_workers: int | None = None,
        persistent: bool = True,
        instead: Instead = lambda: None,
    ) -> Loader:
        part = self.splits[split]
        return Loader(
            ImageDataset(part.images, part.targets, transform, seed=self.seed, decoded=self.decoded.get(split)),
            sampler,
            num_workers=self.num_workers if num_workers is None else num_workers,
            persistent=persistent,
            device=lambda: self._device,
            instead=instead,
            timeout=self.options.timeout,
            names=part.names,
        )

    def _progress(self) -> Progress:
        """Asked when the first batch of an epoch is: of a run that was resumed inside it, the first still to come."""
        assert self.trainer is not None
        return Progress(self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1


def nothing_instead(split: str) -> None:
    """Batches of every split come from images."""


def num_workers(asked: int | str, *, in_memory: bool, cpus: Callable[[], int] = processors) -> int:
    """Workers to start. The result of a run does not depend on it, only its speed."""
    if isinstance(asked, int):
        return asked
    return 0 if in_memory else min(4, max(1, cpus() - 1))


def class_balance(targets: Tensor) -> Tensor:
    """``(N,)`` sampling weights that give every class the same share.

    Raises:
        UserError: ``targets`` are not class numbers.
    """
    require(targets.ndim == 1 and not targets.is_floating_point(), "data.balanced", "needs task=classification", True)
    return (1 / targets.bincount().clamp(min=1).double())[targets]
