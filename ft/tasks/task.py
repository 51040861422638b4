"""The task's protocol: everything that depends on what is predicted, and nothing else does."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from ft.errors import UserError, one_of

Loss = Callable[[Tensor, Tensor], Tensor]


class Task(ABC):
    """Targets, loss, metrics and predictions of one kind of problem.

    Attributes:
        metric: The logged value that decides: checkpoints, early stopping, pruning, soups and sweeps read it.
        mode: ``max`` or ``min``: which of two values of ``metric`` is better.
        classes: Names of the ``K`` outputs; set by ``fit_labels``.
        losses: Names that ``loss`` may have.
        solved_as: What a linear head predicts, for ``ft.optim.head_solver``: ``classes``, ``labels`` or ``numbers``.
        name: What predictions and exports call it.
        activation: From logits to what the user is told: ``softmax``, ``sigmoid`` or ``linear``.
        mean: ``(K,)`` added to ``linear`` outputs after ``std``; ``None`` for 0.
        std: ``(K,)`` factors of ``linear`` outputs; ``None`` for 1.
    """

    losses: ClassVar[tuple[str, ...]]
    solved_as: ClassVar[str]
    name: ClassVar[str]
    activation: str
    mean: Any = None
    std: Any = None

    def __init__(self, *, loss: str, metric: str, mode: str) -> None:
        one_of(loss, self.losses, "task.loss")
        one_of(mode, ("max", "min"), "task.mode")
        self.loss_name = loss
        self.metric = metric
        self.mode = mode
        self.classes: tuple[str, ...] = ()

    @abstractmethod
    def fit_labels(self, labels: np.ndarray, classes: tuple[str, ...], columns: tuple[str, ...]) -> None:
        """Learns from the training split's raw labels what the outputs are, and sets ``classes``.

        Args:
            labels: ``(N,)`` class names or ``(N, K)`` numbers.
            classes: The data set's own order of class names; empty where it has none.
            columns: Names of the label columns; empty where there are none.

        Raises:
            UserError: The labels are not of this task's kind.
        """

    @abstractmethod
    def encode(self, labels: np.ndarray, split: str) -> Tensor:
        """Raw labels to targets: ``(N,)`` class numbers or ``(N, K)`` floats.

        Raises:
            UserError: A label is unknown to training.
        """

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar.

        Args:
            logits: ``(B, K)``.
            targets: As ``encode`` makes them, or soft ones ``(B, K)`` where ``allows_soft_targets``.
        """

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Fresh metrics, updated with ``(prediction inputs, targets)`` as ``metric_inputs`` gives them."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """``(B, K)`` logits to what the user is told: probabilities, or the predicted values."""

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    @property
    def allows_soft_targets(self) -> bool:
        """Whether ``loss`` takes ``(B, K)`` class probabilities, as mixup makes them."""
        return True

    def require_soft_targets(self, plugin: str) -> None:
        """Refuses a plugin that blends targets.

        Raises:
            UserError: Names the plugin and this task, which does not allow it.
        """
        if not self.allows_soft_targets:
            name = type(self).__name__.lower()
            raise UserError(f"plugins=[{plugin}] blends targets, which task={name} does not allow: leave {plugin} out.")

    def soft_targets(self, targets: Tensor) -> Tensor:
        """``(B, K)`` floats that can be blended; targets of floats, such as blended ones, are returned as they are."""
        return targets if targets.is_floating_point() else F.one_hot(targets, self.num_outputs).float()

    def solver_targets(self, targets: Tensor) -> Tensor:
        """Targets in the units of the logits, for ``ft.optim.head_solver``."""
        return targets

    def state_dict(self) -> dict[str, Any]:
        """What ``fit_labels`` has learned, as plain values."""
        return {"classes": list(self.classes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the place of ``fit_labels``."""
        self.classes = tuple(state["classes"])

    def metric_targets(self, targets: Tensor) -> Tensor:
        """Targets as ``metrics`` takes them."""
        return targets

    def class_metrics(self) -> MetricCollection:
        """Metrics with one value per class, for evaluation; none by default."""
        return MetricCollection({})

    def with_class_weights(self, weights: Tensor) -> None:
        """Weighs the classes in the loss.

        Raises:
            UserError: This task has no classes to weigh.
        """
        del weights
        raise UserError(f"data.class_weights needs classes, and task={type(self).__name__.lower()} has none.")

    def class_counts(self, targets: Tensor) -> Tensor:
        """``(K,)`` how many training images each class has."""
        return targets.bincount(minlength=self.num_outputs) if targets.ndim == 1 else targets.sum(0)


def separate(metrics: dict[str, Metric]) -> MetricCollection:
    """Metrics that share no state.

    torchmetrics would otherwise merge two of them for good when their states are equal after the first batch: top-1
    and top-5 accuracy are, whenever that batch is all right.
    """
    collected: Any = metrics
    return MetricCollection(collected, compute_groups=False)


def focal_weight(probability_of_truth: Tensor, gamma: float) -> Tensor:
    """``(1 - p)^gamma``: the focal loss's weight. Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 4."""
    return (1 - probability_of_truth).clamp(min=torch.finfo(probability_of_truth.dtype).tiny) ** gamma
