"""Temperature and thresholds, found on predictions of the validation split.

Temperature scaling: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2: one number T that minimises the
cross entropy of ``logits / T``; the predicted class stays. Thresholds: for each label the one with the best F1.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ft.inference.reading import LINEAR, SOFTMAX, Reading

# A model that is right on every image would want 0.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def calibrated(reading: Reading, logits: Tensor, targets: Tensor) -> Reading:
    """The reading with a temperature and, for a multi-label task, thresholds; unchanged for numbers.

    Args:
        reading: Of the logits, with temperature 1.
        logits: ``(N, K)``.
        targets: ``(N,)`` class numbers or ``(N, K)`` zeros and ones.
    """
    if reading.activation == LINEAR or not len(logits):
        return reading
    found = replace(reading, temperature=best_temperature(logits, targets, reading.activation))
    if reading.task != "multilabel":
        return found
    return replace(found, thresholds=tuple(best_thresholds(found.tell(logits), targets)))


def best_temperature(logits: Tensor, targets: Tensor, activation: str) -> float:
    """By golden section over log T: the loss has one minimum there, and no gradient is needed for one number."""
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        if activation == SOFTMAX:
            return float(F.cross_entropy(scaled, targets))
        hot = targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])
        return float(F.binary_cross_entropy_with_logits(scaled, hot.double()))

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return round(math.exp((low + high) / 2), 6)


def best_thresholds(told: Tensor, targets: Tensor) -> list[float]:
    """``K`` probabilities: halfway between the two neighbours where a label's F1 is best; a half where it never is.

    Args:
        told: ``(N, K)`` probabilities.
        targets: ``(N, K)`` zeros and ones.
    """
    return [_best_threshold(told[:, label], targets[:, label] > 0) for label in range(told.shape[1])]


def _best_threshold(told: Tensor, there: Tensor) -> float:
    if not there.any() or there.all():
        return 0.5
    ordered, order = told.double().sort(descending=True)
    hits = there[order].double().cumsum(0)
    taken = torch.arange(1, len(ordered) + 1, dtype=torch.float64)
    f1 = 2 * hits / (taken + there.sum())
    # Only between different probabilities can a threshold lie.
    f1[:-1][ordered[:-1] == ordered[1:]] = -1
    last = int(f1.argmax())
    below = float(ordered[last + 1]) if last + 1 < len(ordered) else 0.0
    return round((float(ordered[last]) + below) / 2, 6)
