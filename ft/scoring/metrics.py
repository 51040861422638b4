"""The task's metrics with a weight per image: a resample is a weight, so a thousand of them are one matrix product.

    metric(weights (N, R)) -> (R,)      ones: the metric itself      counts of a bootstrap draw: one resample

Both tables of ``ft.evaluate`` and ``ft.compare`` come from here. Definitions are those of torchmetrics and
scikit-learn, but where one of the averaged classes has no value (no image, in this resample), the others are averaged.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch.nn.functional as F
from scipy.sparse import csr_array

from ft.inference.predictions import Predictions
from ft.inference.reading import HALF, SOFTMAX
from ft.scoring.calibration import BINS, bets, bin_of
from ft.scoring.ranking import auroc, average_precision

Metric = Callable[[np.ndarray], np.ndarray]

# Sorted once and summed along the order for each class: the slow ones.
RANKED = frozenset({"auroc", "map"})
LOWER_IS_BETTER = frozenset({"nll", "ece", "mae", "rmse"})
# Shares of images: what the Wilson interval is for.
PROPORTIONS = frozenset({"acc", "top5", "exact", "exact_tuned"})


def metrics_of(predictions: Predictions) -> dict[str, Metric]:
    """Every metric of the predictions' task.

    ``acc, f1, auroc, top5`` (above five classes), ``map``, ``exact`` are those of the task, before the temperature, as
    training logs them. ``nll`` (cross entropy of the data's labels, without smoothing or class weights) and ``ece`` are
    of what the user is told, so after it. ``f1_tuned`` and ``exact_tuned``, where thresholds were tuned, are at these;
    ``f1`` and ``exact`` are at a half.
    """
    task = predictions.reading.task
    if task == "regression":
        return _regression(predictions)
    scores = replace(predictions.reading, temperature=1.0).tell(predictions.logits).numpy()
    targets = predictions.targets.numpy()
    found = _multilabel(predictions, scores) if task == "multilabel" else _classification(scores, targets)
    return {**found, "nll": _mean(_nll(predictions)), "ece": _ece(predictions.told.double().numpy(), targets)}


def _classification(scores: np.ndarray, targets: np.ndarray) -> dict[str, Metric]:
    num_classes = scores.shape[1]
    chosen = scores.argmax(1)
    right = chosen == targets
    hits = _sums(np.where(right, targets, -1), num_classes)
    size, predicted = _sums(targets, num_classes), _sums(chosen, num_classes)

    def f1(weights: np.ndarray) -> np.ndarray:
        # A class that is neither there nor predicted has no F1.
        return mean_of_known(_ratio(2 * hits(weights), size(weights) + predicted(weights)))

    found: dict[str, Metric] = {
        "acc": _mean(right),
        "f1": f1,
        "auroc": _macro([auroc(scores[:, at], targets == at) for at in range(num_classes)]),
    }
    if num_classes > 5:
        better = (scores > scores[np.arange(len(scores)), targets][:, None]).sum(1)
        found["top5"] = _mean(better < 5)
    return found


def _multilabel(predictions: Predictions, scores: np.ndarray) -> dict[str, Metric]:
    there = predictions.targets.numpy() > 0
    found: dict[str, Metric] = {
        "map": _macro([average_precision(scores[:, at], there[:, at]) for at in range(there.shape[1])]),
        "auroc": _macro([auroc(scores[:, at], there[:, at]) for at in range(there.shape[1])]),
    }
    taken = {"": scores > HALF}
    if predictions.reading.thresholds is not None:
        taken["_tuned"] = predictions.reading.labels(predictions.told).numpy()
    for name, labels in taken.items():
        found[f"f1{name}"] = _label_f1(labels, there)
        found[f"exact{name}"] = _mean((labels == there).all(1))
    return found


def _label_f1(labels: np.ndarray, there: np.ndarray) -> Metric:
    hits, size = (labels & there).T.astype(float), (labels.astype(float) + there).T

    def f1(weights: np.ndarray) -> np.ndarray:
        # As torchmetrics and scikit-learn have it for labels: 0 for one that is neither there nor predicted.
        return np.nan_to_num(_ratio(2 * (hits @ weights), size @ weights)).mean(0)

    return f1


def _regression(predictions: Predictions) -> dict[str, Metric]:
    wanted = predictions.targets.double().numpy().reshape(len(predictions), -1)
    error = predictions.told.double().numpy() - wanted
    # Far from zero, the difference of two large sums would lose its digits.
    centred = wanted - wanted.mean(0)
    squared, squares = (error**2).T, (centred**2).T

    def r2(weights: np.ndarray) -> np.ndarray:
        total = squares @ weights - (centred.T @ weights) ** 2 / weights.sum(0)
        # What rounding leaves of a spread of zero; such an output has no R2.
        total[total <= 1e-12 * squares.max(1, keepdims=True) * weights.sum(0)] = 0
        return mean_of_known(1 - _ratio(squared @ weights, total))

    mean_square = _mean(squared.mean(0))
    return {"mae": _mean(np.abs(error).mean(1)), "rmse": lambda weights: np.sqrt(mean_square(weights)), "r2": r2}


def _nll(predictions: Predictions) -> np.ndarray:
    """``(N,)``: natural logarithms; where every output is a yes or no of its own, their mean."""
    reading, targets = predictions.reading, predictions.targets
    logits = predictions.logits.double() / reading.temperature
    if reading.activation == SOFTMAX:
        return F.cross_entropy(logits, targets, reduction="none").numpy()
    hot = targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])
    return F.binary_cross_entropy_with_logits(logits, hot.double(), reduction="none").mean(1).numpy()


def _ece(told: np.ndarray, targets: np.ndarray) -> Metric:
    confidence, outcome = bets(told, targets)
    image = np.repeat(np.arange(len(told)), confidence.shape[1])
    place = (bin_of(confidence, BINS).ravel(), image)
    gaps = csr_array(((confidence - outcome).ravel(), place), shape=(BINS, len(told)))
    return lambda weights: np.abs(gaps @ weights).sum(0) / (weights.sum(0) * confidence.shape[1])


def _mean(values: np.ndarray) -> Metric:
    """Of one value an image, ``(N,)``."""
    row = values.astype(float)
    return lambda weights: row @ weights / weights.sum(0)


def _macro(metrics: Iterable[Metric]) -> Metric:
    listed = list(metrics)
    return lambda weights: mean_of_known(np.stack([metric(weights) for metric in listed]))


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """``(K, R)`` to ``(R,)``: the mean over classes that have a value; nan where none has."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(0), known.sum(0))


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=under > 0)


def _sums(groups: np.ndarray, count: int) -> Metric:
    """Weights summed by group, ``(count, R)``; images of group -1 are in none."""
    image = np.flatnonzero(groups >= 0)
    one = csr_array((np.ones(len(image)), (groups[image], image)), shape=(count, len(groups)))
    return lambda weights: np.asarray(one @ weights)
