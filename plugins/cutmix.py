"""CutMix: a rectangle of every training image is replaced by the same one of another image of the batch.

    +--------+   +--------+   +--------+
    |  cat   | + |  dog   | = |  +--+  |   target: 75 % cat, 25 % dog, as the areas say
    |        |   |        |   |  +--+  |   rectangle of about 1 - lam of the area, lam ~ Beta(alpha, alpha)
    +--------+   +--------+   +--------+

From Yun et al. 2019, https://arxiv.org/abs/1905.04899. Turn on with ``plugins=[cutmix]``.
"""

import math
from typing import ClassVar

import torch
from lightning.pytorch import Trainer
from torch import Generator, Tensor

from ft import FineTuner, Plugin, Task
from ft.data.module import DataModule
from ft.data.randomness import draw_beta
from ft.errors import require

Box = tuple[int, int, int, int]


def cut_box(height: int, width: int, *, lam: float, y: float, x: float) -> Box:
    """The rectangle to replace.

    Args:
        height: Of the images.
        width: Of the images.
        lam: Share of the original image that is asked for, in ``[0, 1]``; what the edge cuts off, it keeps.
        y: Where the middle of the rectangle is, in ``[0, 1]``.
        x: Likewise.

    Returns:
        ``(top, bottom, left, right)``, bottom and right exclusive.

    Source: Yun et al. 2019, https://arxiv.org/abs/1905.04899, equation 2.
    """
    tall, wide = (round(side * math.sqrt(1 - lam)) for side in (height, width))
    top, left = int(y * height) - tall // 2, int(x * width) - wide // 2
    return max(top, 0), min(top + tall, height), max(left, 0), min(left + wide, width)


def cutmix(images: Tensor, targets: Tensor, *, box: Box, order: Tensor) -> tuple[Tensor, Tensor]:
    """Pastes a rectangle of another image into each, and blends the targets by area.

    Args:
        images: ``(B, C, H, W)``, already normalised.
        targets: ``(B, K)`` class probabilities; rows sum to 1.
        box: Top, bottom, left and right of the rectangle.
        order: ``(B,)`` index of each image's partner.

    Source: Yun et al. 2019, https://arxiv.org/abs/1905.04899, equation 1.
    """
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
    lam = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    return mixed, lam * targets + (1 - lam) * targets[order]


class Cutmix(Plugin):
    """Pastes rectangles between the images of a batch.

    Args:
        alpha: Of the Beta distribution, at least 0; 0 pastes nothing.
        prob: Share of the batches in which rectangles are pasted, in ``[0, 1]``.

    Raises:
        UserError: A value is out of range, or the task takes no soft targets.
    """

    neutral: ClassVar = {"alpha": 0.0}

    def __init__(self, *, alpha: float, prob: float) -> None:
        require(alpha >= 0, "plugins.cutmix.alpha", "must be at least 0", alpha)
        require(0 <= prob <= 1, "plugins.cutmix.prob", "must be in [0, 1]", prob)
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
        order = torch.randperm(len(images), generator=generator).to(images.device)
        lam = draw_beta(self.alpha, generator)
        y, x = torch.rand(2, generator=generator).tolist()
        box = cut_box(images.shape[2], images.shape[3], lam=lam, y=y, x=x)
        return cutmix(images, self.task.soft_targets(targets), box=box, order=order)
