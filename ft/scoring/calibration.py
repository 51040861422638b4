"""Reliability: is what the model calls 80 % right in 80 % of the cases?

    confidence in 15 equal bins of (0, 1]      gap of a bin = |share that is right - mean confidence|
    ECE = gaps, weighed by the images in each bin

Guo et al. 2017, https://arxiv.org/abs/1706.04599, equations 2 and 3. The temperature is their section 4.2, found on
the validation split (``ft.inference.calibrate``).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ft.inference.predictions import Predictions
from ft.inference.reading import LINEAR

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram.

    Attributes:
        confidence: ``(bins,)`` mean confidence; nan in a bin without images.
        accuracy: ``(bins,)`` share that is right; nan in a bin without images.
        count: ``(bins,)`` how many images; of a multi-label task, images times labels.
        ece: Expected calibration error, in ``[0, 1]``.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    ece: float


def reliability(probs: Any, targets: Any, bins: int = BINS) -> Reliability:
    """Bins predictions by their confidence.

    Args:
        probs: ``(N, K)``, tensor or array.
        targets: ``(N,)`` class numbers: the confidence is the largest probability, right when its class is the true
            one. Or ``(N, K)`` zeros and ones: each probability is a bet that its label is there.
        bins: How many, of equal width; a value on an edge belongs to the lower one.
    """
    confidence, outcome = bets(np.asarray(probs, dtype=float), np.asarray(targets))
    confidence, outcome = confidence.ravel(), outcome.ravel()
    where = bin_of(confidence, bins)
    count = np.bincount(where, minlength=bins)
    sums = (np.bincount(where, weights=values, minlength=bins) for values in (confidence, outcome))
    means = [np.divide(total, count, out=np.full(bins, np.nan), where=count > 0) for total in sums]
    gaps = np.abs(means[0] - means[1])[count > 0]
    ece = float((gaps * count[count > 0]).sum() / max(count.sum(), 1))
    return Reliability(means[0], means[1], count, ece)


def before_and_after(predictions: Predictions, bins: int = BINS) -> tuple[Reliability, Reliability] | None:
    """Without and with the temperature; ``None`` for a task of numbers."""
    if predictions.reading.activation == LINEAR:
        return None
    plain = replace(predictions.reading, temperature=1.0).tell(predictions.logits)
    return reliability(plain, predictions.targets, bins), reliability(predictions.told, predictions.targets, bins)


def bets(probs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and 1 where they were right, else 0: both ``(N, 1)``, or ``(N, K)`` of a multi-label task."""
    if targets.ndim == 2:
        return probs, (targets > 0).astype(float)
    chosen = probs.argmax(1)
    return probs.max(1)[:, None], (chosen == targets).astype(float)[:, None]


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The number of each confidence's bin: ``(m / bins, (m + 1) / bins]`` is bin ``m``, and 0 is in the first."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
