"""What all heads of a job have in common: the backbone, and what it makes of every image, computed once.

train, val   as a single run stores them, in the same entries of the cache
val, test    as the best checkpoint is run over them at the end, in the run's precision: features, never kept
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.utilities.types import EVAL_DATALOADERS

from ft.build.run import Run
from ft.cache.writer import Writer
from ft.data.loader import BatchSource, Loader
from ft.data.module import DataModule
from ft.phases.activation_store import ActivationStore
from ft.phases.plan import HEAD
from ft.phases.stored_views import StoredViews


class FrozenStore(ActivationStore):
    """Of a backbone that nothing changes: the name of an entry, a hash of all its weights, is found out once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._names: dict[tuple[str, int, str], str | None] = {}

    def key(self, module: Any, split: str, view: int, at: str) -> str | None:
        if (split, view, at) not in self._names:
            self._names[split, view, at] = super().key(module, split, view, at)
        return self._names[split, view, at]


class FeatureLoaders(DataModule):
    """Loaders that evaluate a head on features in place of a model on images: the same batches in the same order.

    Args:
        given: Whose splits and options these are.
        evaluated: The features of a split, as evaluation computes them.
        seed: Of the run.
    """

    def __init__(self, given: DataModule, evaluated: Mapping[str, BatchSource], *, seed: int) -> None:
        super().__init__(
            given.splits,
            train_transform=given.train_transform,
            eval_transform=given.eval_transform,
            options=given.options,
            seed=seed,
            in_memory=True,
            decoded=given.decoded,
        )
        self.num_workers = given.num_workers
        self.evaluated = evaluated

    def evaluation_loader(self, split: str) -> Loader:
        return self._evaluation_loader(split, instead=lambda: self.evaluated.get(split))

    def test_dataloader(self) -> EVAL_DATALOADERS:
        return self.evaluation_loader("test")


def evaluated_features(run: Run, split: str) -> StoredViews:
    """What the head gets from every image of a split when a run's best checkpoint is run over it.

    Args:
        run: Its module is on its device, in eval mode.
        split: ``val`` or ``test``.
    """
    module, trainer = run.module, run.trainer
    part = run.data.splits[split]
    prefix = module.model.split(HEAD)[0]
    writer = Writer(None, "fp32", len(part.targets), {}, in_memory=True)
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for read in run.loaders.evaluation_loader(split):
            batch = module.on_after_batch_transfer(trainer.strategy.batch_to_device(read, module.device), 0)
            writer.failures += batch.failures
            if len(batch.index):
                writer.add([prefix(batch.images)], batch.index.cpu())
    return StoredViews([writer.finish()], part.targets, HEAD, seed=run.module.seed)
