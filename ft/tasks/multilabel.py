"""Multi-label: any number of K labels, each on its own; one label with a sigmoid is K = 1."""

from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryF1Score,
    MultilabelAUROC,
    MultilabelAveragePrecision,
    MultilabelExactMatch,
    MultilabelF1Score,
)

from ft.errors import UserError, require
from ft.tasks.task import Task, focal_weight, separate

Losses = Literal["binary_cross_entropy", "focal", "asymmetric"]


class Multilabel(Task):
    """A yes or no for every label.

    Args:
        loss: ``binary_cross_entropy``, ``focal`` or ``asymmetric``.
        label_smoothing: Moves 0 and 1 towards a half, in ``[0, 1)``.
        focal_gamma: Exponent of the focal loss, at least 0.
        gamma_positive: Asymmetric loss: exponent for labels that are there, at least 0.
        gamma_negative: Asymmetric loss: exponent for labels that are not.
        margin: Asymmetric loss: probability below which an absent label costs nothing, in ``[0, 1)``.
        metric: What decides between checkpoints.
        mode: Which of two values is better.
    """

    solved_as = "labels"
    name = "multilabel"
    activation = "sigmoid"
    losses = get_args(Losses)

    def __init__(
        self,
        *,
        loss: Losses,
        label_smoothing: float,
        focal_gamma: float,
        gamma_positive: float,
        gamma_negative: float,
        margin: float,
        metric: str,
        mode: str,
    ) -> None:
        super().__init__(loss=loss, metric=metric, mode=mode)
        require(0 <= label_smoothing < 1, "task.label_smoothing", "must be in [0, 1)", label_smoothing)
        require(focal_gamma >= 0, "task.focal_gamma", "must be at least 0", focal_gamma)
        require(gamma_positive >= 0, "task.gamma_positive", "must be at least 0", gamma_positive)
        require(gamma_negative >= 0, "task.gamma_negative", "must be at least 0", gamma_negative)
        require(0 <= margin < 1, "task.margin", "must be in [0, 1)", margin)
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.gamma_positive = gamma_positive
        self.gamma_negative = gamma_negative
        self.margin = margin
        self.class_weights: Tensor | None = None

    def fit_labels(self, labels: np.ndarray, classes: tuple[str, ...], columns: tuple[str, ...]) -> None:
        if not columns or labels.dtype.kind != "f":
            raise UserError("task=multilabel needs label columns of 0 and 1: data=table with data.numeric=true.")
        if not np.isin(labels, (0, 1)).all():
            raise UserError(f"task=multilabel needs labels of 0 and 1, got {labels[~np.isin(labels, (0, 1))][0]}.")
        self.classes = columns

    def encode(self, labels: np.ndarray, split: str) -> Tensor:
        if not np.isin(labels, (0, 1)).all():
            raise UserError(f"task=multilabel needs labels of 0 and 1, and {split} has others.")
        return torch.tensor(labels, dtype=torch.float32)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(logits)
        if self.loss_name != "asymmetric":
            targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        if self.loss_name == "binary_cross_entropy":
            return F.binary_cross_entropy_with_logits(logits, targets, weight=weights)
        present, absent = F.logsigmoid(logits), F.logsigmoid(-logits)
        if self.loss_name == "focal":
            each = -targets * present * focal_weight(present.exp(), self.focal_gamma)
            each = each - (1 - targets) * absent * focal_weight(absent.exp(), self.focal_gamma)
        else:
            each = self._asymmetric(present, targets)
        return (each if weights is None else each * weights).mean()

    def _asymmetric(self, log_present: Tensor, targets: Tensor) -> Tensor:
        """``(B, K)``. Ridnik et al. 2021, https://arxiv.org/abs/2009.14119, equations 4 to 6."""
        present = log_present.exp()
        shifted = (present - self.margin).clamp(min=0)
        tiny = torch.finfo(shifted.dtype).eps
        positive = focal_weight(present, self.gamma_positive) * log_present
        negative = focal_weight(1 - shifted, self.gamma_negative) * (1 - shifted).clamp(min=tiny).log()
        return -(targets * positive + (1 - targets) * negative)

    def metrics(self) -> MetricCollection:
        """``map`` (mean average precision), ``f1`` (macro), ``auroc`` (macro), ``exact`` (all labels right)."""
        k = self.num_outputs
        if k == 1:  # torchmetrics' multi-label metrics want at least two
            return separate(
                {
                    "map": BinaryAveragePrecision(),
                    "f1": BinaryF1Score(),
                    "auroc": BinaryAUROC(),
                    "exact": BinaryAccuracy(),
                }
            )
        return separate(
            {
                "map": MultilabelAveragePrecision(k, average="macro"),
                "f1": MultilabelF1Score(k, average="macro"),
                "auroc": MultilabelAUROC(k, average="macro"),
                "exact": MultilabelExactMatch(k),
            }
        )

    def metric_targets(self, targets: Tensor) -> Tensor:
        return targets.int()

    def class_metrics(self) -> MetricCollection:
        k = self.num_outputs
        if k == 1:
            return separate({})
        return separate(
            {"ap": MultilabelAveragePrecision(k, average="none"), "f1": MultilabelF1Score(k, average="none")}
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def with_class_weights(self, weights: Tensor) -> None:
        self.class_weights = weights
