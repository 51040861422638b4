"""What logits mean: probabilities, labels or numbers. One object for the run, prediction, every export and the server.

    logits  ->  / temperature  ->  softmax | sigmoid | * std + mean  ->  what the user is told

The temperature and the thresholds are found on the validation split once training is over (``ft.inference.calibrate``).
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ft.tasks.task import Task

SOFTMAX, SIGMOID, LINEAR = "softmax", "sigmoid", "linear"
# Of a label without a tuned threshold.
HALF = 0.5


@dataclass(frozen=True)
class Reading:
    """How logits ``(B, K)`` are read.

    Attributes:
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Names of the ``K`` outputs.
        activation: ``softmax``, ``sigmoid`` or ``linear``.
        temperature: Divides logits; 1 where nothing was calibrated, and always for ``linear``.
        thresholds: ``K`` probabilities from which on a label is there; ``None``: a half for all.
        mean: ``K`` values added to ``linear`` outputs after ``std``; ``None`` for 0.
        std: ``K`` factors of ``linear`` outputs; ``None`` for 1.
    """

    task: str
    classes: tuple[str, ...]
    activation: str
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def tell(self, logits: Tensor) -> Tensor:
        """``(B, K)``: probabilities, or the predicted numbers in the data's own unit."""
        if self.activation == LINEAR:
            std = torch.tensor(self.std or [1.0] * len(self.classes)).to(logits)
            mean = torch.tensor(self.mean or [0.0] * len(self.classes)).to(logits)
            return logits * std + mean
        logits = logits / self.temperature
        return logits.softmax(1) if self.activation == SOFTMAX else logits.sigmoid()

    def labels(self, told: Tensor) -> Tensor:
        """``(B, K)`` booleans of a multi-label task: which labels are there.

        Args:
            told: From ``tell``.
        """
        return told >= torch.tensor(self.thresholds or [HALF] * len(self.classes)).to(told)

    @classmethod
    def of_task(cls, task: Task) -> "Reading":
        """As the task defines it, before anything is calibrated."""
        mean, std = (None if values is None else tuple(values.tolist()) for values in (task.mean, task.std))
        return cls(task.name, task.classes, task.activation, mean=mean, std=std)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Reading":
        """The other way round."""
        listed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**listed)
