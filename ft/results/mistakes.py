"""Which images to look at: the worst mistakes, and what went well, for every task."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ft.inference.predictions import Predictions


@dataclass(frozen=True)
class Shown:
    """One image with what was said of it.

    Attributes:
        row: Of the predictions.
        output: The output that explains it most: the predicted class, the label or number that is most wrong.
        right: Whether the prediction is right; numbers are neither, and count as wrong.
        said: What was predicted, in words.
        true: What is true, in words.
        confidence: Probability of what was predicted; ``None`` for numbers.
    """

    row: int
    output: int
    right: bool
    said: str
    true: str
    confidence: float | None


def worst(predictions: Predictions, count: int) -> list[Shown]:
    """The ``count`` wrong predictions with the highest loss."""
    loss, wrong = losses(predictions), ~is_right(predictions)
    rows = loss.masked_fill(~wrong, -1).argsort(descending=True, stable=True)[: min(count, int(wrong.sum()))]
    return [shown(predictions, row) for row in rows.tolist()]


def hits(predictions: Predictions, count: int) -> list[Shown]:
    """Right predictions, the surest of each class in turn; none for a task of numbers."""
    right = is_right(predictions)
    if not right.any():
        return []
    loss = losses(predictions)
    kind = predictions.targets if predictions.targets.ndim == 1 else predictions.told.argmax(1)
    queues = []
    for each in kind[right].unique().tolist():
        rows = (right & (kind == each)).nonzero().flatten()
        queues.append(rows[loss[rows].argsort(stable=True)].tolist())
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return [shown(predictions, row) for row in turns[:count]]


def is_right(predictions: Predictions) -> Tensor:
    """``(N,)`` booleans: the class, or all labels at their thresholds; no number is."""
    told, targets, task = predictions.told, predictions.targets, predictions.reading.task
    if task == "regression":
        return torch.zeros(len(predictions), dtype=torch.bool)
    if task == "multilabel":
        return (predictions.reading.labels(told) == (targets > 0)).all(1)
    return told.argmax(1) == targets


def losses(predictions: Predictions) -> Tensor:
    """``(N,)``: cross entropy of what the user is told; of numbers the mean error in standard deviations."""
    told, targets = predictions.told.double(), predictions.targets
    if predictions.reading.task == "regression":
        return _errors(predictions).mean(1)
    tiny = torch.finfo(torch.float32).tiny
    if predictions.reading.task == "multilabel":
        return F.binary_cross_entropy(told, targets.double(), reduction="none").mean(1)
    return -told[torch.arange(len(told)), targets].clamp(min=tiny).log()


def shown(predictions: Predictions, row: int) -> Shown:
    """One row in words."""
    reading, told, target = predictions.reading, predictions.told[row], predictions.targets[row]
    right = bool(is_right(predictions)[row])
    if reading.task == "classification":
        best = int(told.argmax())
        return Shown(row, best, right, reading.classes[best], reading.classes[int(target)], float(told[best]))
    if reading.task == "regression":
        output = int(_errors(predictions)[row].argmax())
        name = f"{reading.classes[output]} " if len(reading.classes) > 1 else ""
        return Shown(row, output, right, f"{name}{float(told[output]):.4g}", f"{float(target[output]):.4g}", None)
    there, taken = target > 0, reading.labels(told[None])[0]
    output = int((told - target).abs().argmax()) if not right else int(told.argmax())
    named = [", ".join(name for name, is_in in zip(reading.classes, each.tolist(), strict=True) if is_in) or "none"
             for each in (taken, there)]  # fmt: skip
    return Shown(row, output, right, named[0], named[1], float(told[output]))


def _errors(predictions: Predictions) -> Tensor:
    """``(N, K)`` absolute errors, in standard deviations of the training values."""
    std = torch.tensor(predictions.reading.std or [1.0] * len(predictions.reading.classes))
    return (predictions.told - predictions.targets).abs().double() / std
