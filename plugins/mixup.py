"""Mixup: every training image, and its target, is blended with another of the same batch.

    image <- lam * image + (1 - lam) * partner,  target likewise          lam ~ Beta(alpha, alpha)

From Zhang et al. 2018, https://arxiv.org/abs/1710.09412. Turn on with ``plugins=[mixup]``.
"""

from typing import ClassVar

import torch
from lightning.pytorch import Trainer
from torch import Generator, Tensor

from ft import FineTuner, Plugin, Task
from ft.data.blend import blend, draw_blend
from ft.data.module import DataModule
from ft.errors import require


class Mixup(Plugin):
    """Blends the images of a batch.

    Args:
        alpha: Of the Beta distribution, at least 0; 0 blends nothing.
        prob: Share of the batches that are blended, in ``[0, 1]``.

    Raises:
        UserError: A value is out of range, or the task takes no soft targets.
    """

    neutral: ClassVar = {"alpha": 0.0}
    stored_as = "activations"  # manifold mixup: Verma et al. 2019, https://arxiv.org/abs/1806.05236

    def __init__(self, *, alpha: float, prob: float) -> None:
        require(alpha >= 0, "plugins.mixup.alpha", "must be at least 0", alpha)
        require(0 <= prob <= 1, "plugins.mixup.prob", "must be in [0, 1]", prob)
        self.alpha = alpha
        self.prob = prob
        self.task: Task | None = None

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        self.task = module.task
        self.task.require_soft_targets(self.name)

    def train_batch(self, images: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        if self.alpha == 0 or torch.rand((), generator=generator) >= self.prob:
            return images, targets
        assert self.task is not None
        lam, order = draw_blend(len(images), self.alpha, generator)
        return blend(images, self.task.soft_targets(targets), lam=lam, order=order.to(images.device))
