"""L2-SP: weights are pulled towards where they started, the pretrained weights, and not towards zero.

    loss + alpha/2 * |w - w0|^2  over the backbone  + beta/2 * |w|^2  over the new head

From Li, Grandvalet & Davoine 2018, https://arxiv.org/abs/1802.01483, section 3. It takes the place of weight decay: set
``optimizer.weight_decay=0`` beside it. Turn on with ``plugins=[l2_sp]``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from ft import FineTuner, Plugin
from ft.errors import require
from ft.tasks.task import Loss


def penalty(weights: Mapping[str, Tensor], start: Mapping[str, Tensor], *, alpha: float, beta: float) -> Tensor:
    """``alpha/2 |w - w0|^2`` over what has a start, plus ``beta/2 |w|^2`` over the rest: a scalar.

    Args:
        weights: Those that train, by name.
        start: ``w0`` of the backbone, by name.
        alpha: Strength of the pull towards the start.
        beta: Strength of the pull towards zero.

    Source: Li et al. 2018, https://arxiv.org/abs/1802.01483, equation 2.
    """
    total = torch.zeros(())
    for name, weight in weights.items():
        if name in start:
            part = alpha / 2 * (weight - start[name].to(weight)).square().sum()
        else:
            part = beta / 2 * weight.square().sum()
        total = total.to(part.device) + part
    return total


class L2Sp(Plugin):
    """Adds the penalty to the training loss.

    Args:
        alpha: At least 0, for the backbone.
        beta: At least 0, for the head.

    Raises:
        UserError: A value is below 0.
    """

    needs_pretrained = True
    needs_whole_weights = True
    neutral: ClassVar = {"alpha": 0.0, "beta": 0.0}

    def __init__(self, *, alpha: float, beta: float) -> None:
        require(alpha >= 0, "plugins.l2_sp.alpha", "must be at least 0", alpha)
        require(beta >= 0, "plugins.l2_sp.beta", "must be at least 0", beta)
        self.alpha = alpha
        self.beta = beta
        self.start: dict[str, Tensor] = {}
        self.model: Any = None

    def prepare(self, module: FineTuner, trainer: Trainer, data: Any) -> None:
        self.model = module.model

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        # A resumed run has loaded the first run's start by now; its own weights are no longer it.
        if not self.start and (self.alpha or self.beta):
            head = set(self.model.stages()[-1].parameters)
            self.start = {
                name: value.detach().clone() for name, value in self.model.named_parameters() if name not in head
            }

    def train_loss(self, loss: Loss) -> Loss:
        if not self.alpha and not self.beta:
            return loss

        def with_penalty(logits: Tensor, targets: Tensor) -> Tensor:
            weights = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
            return loss(logits, targets) + penalty(weights, self.start, alpha=self.alpha, beta=self.beta)

        return with_penalty

    def state_dict(self) -> dict[str, Any]:
        return {"start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start = dict(state_dict["start"])
