"""Classification: one of K classes; binary is two of them."""

from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

from ft.errors import UserError, require
from ft.tasks.task import Task, focal_weight, separate

Losses = Literal["cross_entropy", "binary_cross_entropy", "focal"]


class Classification(Task):
    """One class an image.

    Args:
        loss: ``cross_entropy``, ``binary_cross_entropy`` (one against the rest, K times) or ``focal``.
        label_smoothing: Share of the target spread over all classes, in ``[0, 1)``.
        focal_gamma: Exponent of the focal loss, at least 0; 0 is the cross entropy.
        metric: What decides between checkpoints.
        mode: Which of two values is better.
    """

    solved_as = "classes"
    name = "classification"
    losses = get_args(Losses)

    def __init__(self, *, loss: Losses, label_smoothing: float, focal_gamma: float, metric: str, mode: str) -> None:
        super().__init__(loss=loss, metric=metric, mode=mode)
        require(0 <= label_smoothing < 1, "task.label_smoothing", "must be in [0, 1)", label_smoothing)
        require(focal_gamma >= 0, "task.focal_gamma", "must be at least 0", focal_gamma)
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.class_weights: Tensor | None = None
        self.activation = "sigmoid" if loss == "binary_cross_entropy" else "softmax"

    def fit_labels(self, labels: np.ndarray, classes: tuple[str, ...], columns: tuple[str, ...]) -> None:
        if columns or labels.ndim != 1 or labels.dtype.kind == "f":
            raise UserError(
                "task=classification needs one class name an image, and this data has numbers: "
                "set task=regression or task=multilabel, or data.numeric=false."
            )
        present = set(labels.tolist())
        self.classes = classes or tuple(sorted(present))
        if absent := [name for name in self.classes if name not in present]:
            raise UserError(f"class {absent[0]!r} has no training image; it needs at least one, or has to go.")
        require(len(self.classes) >= 2, "data", "must have at least 2 classes", self.classes)

    def encode(self, labels: np.ndarray, split: str) -> Tensor:
        number = {name: at for at, name in enumerate(self.classes)}
        if unknown := sorted(set(labels.tolist()) - set(number)):
            raise UserError(f"class {unknown[0]!r} is in {split} but not in train.")
        return torch.tensor([number[name] for name in labels.tolist()])

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights = self.class_weights
        if weights is not None:
            weights = weights.to(logits)
        if self.loss_name == "cross_entropy":
            return F.cross_entropy(logits, targets, weight=weights, label_smoothing=self.label_smoothing)
        soft = self._soft(targets, logits)
        if self.loss_name == "binary_cross_entropy":
            return F.binary_cross_entropy_with_logits(logits, soft, weight=weights)
        log_probs = logits.log_softmax(1)
        each = -soft * log_probs * focal_weight(log_probs.exp(), self.focal_gamma)
        if weights is None:
            return each.sum(1).mean()
        return (each * weights).sum() / (soft * weights).sum()

    def metrics(self) -> MetricCollection:
        """``acc``, ``f1`` (macro), ``auroc`` (macro) and, above five classes, ``top5``."""
        k = self.num_outputs
        chosen = {
            "acc": MulticlassAccuracy(k, average="micro"),
            "f1": MulticlassF1Score(k, average="macro"),
            "auroc": MulticlassAUROC(k, average="macro"),
        }
        if k > 5:
            chosen["top5"] = MulticlassAccuracy(k, top_k=5, average="micro")
        return separate(chosen)

    def class_metrics(self) -> MetricCollection:
        k = self.num_outputs
        return separate({"acc": MulticlassAccuracy(k, average="none"), "f1": MulticlassF1Score(k, average="none")})

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(1)

    def with_class_weights(self, weights: Tensor) -> None:
        self.class_weights = weights

    def _soft(self, targets: Tensor, logits: Tensor) -> Tensor:
        """``(B, K)`` class probabilities, smoothed."""
        soft = self.soft_targets(targets)
        return soft.to(logits) * (1 - self.label_smoothing) + self.label_smoothing / self.num_outputs
