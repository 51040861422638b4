"""Regression: K numbers an image, standardised while training."""

from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score

from ft.errors import UserError, require
from ft.tasks.task import Task, separate

Losses = Literal["mse", "l1", "huber"]
LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


class Regression(Task):
    """Numbers.

    The network predicts ``(value - mean) / std`` of the training values, so that rates and losses do not depend on
    the unit; metrics and predictions are in the data's own unit.

    Args:
        loss: ``mse``, ``l1`` or ``huber``, on standardised values.
        huber_delta: Where the Huber loss turns linear, in standard deviations, above 0.
        metric: What decides between checkpoints.
        mode: Which of two values is better.
    """

    solved_as = "numbers"
    name = "regression"
    activation = "linear"
    losses = get_args(Losses)

    def __init__(self, *, loss: Losses, huber_delta: float, metric: str, mode: str) -> None:
        super().__init__(loss=loss, metric=metric, mode=mode)
        require(huber_delta > 0, "task.huber_delta", "must be above 0", huber_delta)
        self.huber_delta = huber_delta
        self.mean = torch.zeros(1)
        self.std = torch.ones(1)

    @property
    def allows_soft_targets(self) -> bool:
        return False

    def fit_labels(self, labels: np.ndarray, classes: tuple[str, ...], columns: tuple[str, ...]) -> None:
        if labels.dtype.kind != "f":
            raise UserError("task=regression needs numbers, and this data has class names: data.numeric=true.")
        values = labels.reshape(len(labels), -1)
        require(bool(np.isfinite(values).all()), "task=regression", "needs finite values", values[~np.isfinite(values)])
        self.classes = columns or tuple(f"value{at}" for at in range(values.shape[1]))
        self.mean = torch.tensor(values.mean(0), dtype=torch.float32)
        self.std = torch.tensor(values.std(0), dtype=torch.float32).clamp(min=1e-12)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "mean": self.mean.tolist(), "std": self.std.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.mean, self.std = torch.tensor(state["mean"]), torch.tensor(state["std"])

    def encode(self, labels: np.ndarray, split: str) -> Tensor:
        require(bool(np.isfinite(labels).all()), "task=regression", f"needs finite values in {split}", "others")
        return torch.tensor(labels.reshape(len(labels), -1), dtype=torch.float32)

    def solver_targets(self, targets: Tensor) -> Tensor:
        return (targets - self.mean.to(targets)) / self.std.to(targets)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        wanted = self.solver_targets(targets.to(logits))
        if self.loss_name == "huber":
            return F.huber_loss(logits, wanted, delta=self.huber_delta)
        return LOSSES[self.loss_name](logits, wanted)

    def metrics(self) -> MetricCollection:
        """``mae``, ``rmse``, ``r2``, in the data's own unit, averaged over the K outputs."""
        return separate({"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False), "r2": R2Score()})

    def probabilities(self, logits: Tensor) -> Tensor:
        """The predicted values, in the data's own unit."""
        return logits * self.std.to(logits) + self.mean.to(logits)
