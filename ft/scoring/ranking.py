"""Metrics of an order, with a weight per image: area under the ROC curve, average precision.

Sorted once; each resample is then a running sum along the order. Ties count half (area), or share one threshold
(precision), as in scikit-learn.
"""

from collections.abc import Callable

import numpy as np


def auroc(scores: np.ndarray, there: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The probability that an image of the class scores above one of another class.

    Args:
        scores: ``(N,)``.
        there: ``(N,)`` booleans.

    Returns:
        ``(N, R)`` weights to ``(R,)``; nan where one of the two kinds has no weight.
    """
    present, absent = _ascending(scores, there), _ascending(scores, ~there)
    below, up_to = (np.searchsorted(scores[absent], scores[present], side) for side in ("left", "right"))

    def value(weights: np.ndarray) -> np.ndarray:
        chosen, lower = weights[present], _running(weights[absent])
        won = (chosen * (lower[below] + lower[up_to])).sum(0)
        pairs = 2 * chosen.sum(0) * lower[-1]
        return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    return value


def average_precision(scores: np.ndarray, there: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The precision at every image of the class, averaged: no interpolation.

    Args:
        scores: ``(N,)``.
        there: ``(N,)`` booleans.

    Returns:
        ``(N, R)`` weights to ``(R,)``; nan where no image of the class has weight.
    """
    present, absent = _ascending(scores, there), _ascending(scores, ~there)
    lower_present = np.searchsorted(scores[present], scores[present], "left")
    lower_absent = np.searchsorted(scores[absent], scores[present], "left")

    def value(weights: np.ndarray) -> np.ndarray:
        chosen = weights[present]
        hits, misses = _running(chosen), _running(weights[absent])
        hit = hits[-1] - hits[lower_present]
        taken = hit + misses[-1] - misses[lower_absent]
        precision = np.divide(hit, taken, out=np.zeros_like(hit), where=taken > 0)
        total = (chosen * precision).sum(0)
        return np.divide(total, hits[-1], out=np.full(len(total), np.nan), where=hits[-1] > 0)

    return value


def _ascending(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    found = np.flatnonzero(chosen)
    return found[np.argsort(scores[found], kind="stable")]


def _running(weights: np.ndarray) -> np.ndarray:
    """``(M, R)`` to ``(M + 1, R)``: the sum of the first m rows, from none to all."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums
