"""SWA: from some epoch on, validation, testing and checkpoints use the mean of the weights at the ends of the epochs.

    epoch   0   1   2   3   4   5   6   7          start=0.5
                            w4  w5  w6  w7
    evaluated with          w4  mean(w4, w5)  mean(w4, w5, w6)  ...

BatchNorm's statistics are computed anew for the mean, from training images as evaluation sees them. From Izmailov et
al. 2018, https://arxiv.org/abs/1803.05407, algorithm 1. It wants a rate that stays up: ``schedule=constant``. Turn on
with ``plugins=[swa]``.
"""

from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer
from torch.nn.modules.batchnorm import _NormBase

from ft import FineTuner, Plugin, UserError
from ft.checkpoint.evaluated_weights import EvaluatedWeights
from ft.data.module import DataModule
from ft.data.transforms import normalize
from ft.errors import require


def first_epoch(*, start: float, max_epochs: int) -> int:
    """The first epoch whose end is averaged; ``max_epochs`` for none."""
    return min(max_epochs, round(start * max_epochs))


class Swa(Plugin):
    """Averages the ends of the last epochs.

    Args:
        start: Share of the epochs before averaging begins, in ``[0, 1]``; 1 averages nothing.
        num_images: Training images that BatchNorm's statistics are computed from, at least 1.

    Raises:
        UserError: A value is out of range, or nothing says how many epochs there are.
    """

    changes_evaluation = True
    exclusive = frozenset({"averages the weights"})
    neutral: ClassVar = {"start": 1.0}

    def __init__(self, *, start: float, num_images: int) -> None:
        require(0 <= start <= 1, "plugins.swa.start", "must be in [0, 1]", start)
        require(num_images >= 1, "plugins.swa.num_images", "must be at least 1", num_images)
        self.start = start
        self.num_images = num_images
        self.weights = EvaluatedWeights()

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        if not trainer.max_epochs or trainer.max_epochs < 0:
            raise UserError("plugins=[swa] starts after a share of the epochs: set trainer.max_epochs.")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        since = trainer.current_epoch - first_epoch(start=self.start, max_epochs=trainer.max_epochs or 0)
        if since < 0:
            # Of a run that was resumed with more epochs: its average begins later now.
            self.weights.average.clear()
        elif trainer.is_last_batch:
            self.weights.update(pl_module.model, 1 / (1 + since))

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights.swap_in(pl_module.model)
        if self.weights.average and trainer.is_last_batch:
            data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            recompute_statistics(pl_module, data, self.num_images)
            self.weights.update(pl_module.model, 1)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights.swap_out(pl_module.model)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.weights.write(checkpoint, pl_module.model)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.weights.read(checkpoint, pl_module.model)


@torch.no_grad()
def recompute_statistics(module: FineTuner, data: DataModule, num_images: int) -> None:
    """Running means and variances of the open BatchNorm layers, as the plain mean over batches of training images.

    Frozen layers keep theirs: the weights before them have not moved.
    """
    opened = frozenset() if module.phase is None else module.phase.tensors
    layers = [
        layer
        for name, layer in module.model.named_modules()
        if isinstance(layer, _NormBase) and f"{name}.running_mean" in opened
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for the plain mean
        layer.training = True
    for batch in data.sample_loader("train", num_images):
        if len(batch.index) < 2:
            continue  # one image has no variance
        module.model(normalize(batch.images.to(module.device), module.model.input_spec))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.training = False
