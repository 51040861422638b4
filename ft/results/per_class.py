"""One row a class: how many images it has, and how they fared."""

from dataclasses import asdict, dataclass

import numpy as np

from ft.inference.predictions import Predictions
from ft.scoring.intervals import wilson


@dataclass(frozen=True)
class ClassRow:
    """One class of a classification, or one label.

    Attributes:
        name: Of the class.
        support: Images of the class.
        precision: Share of the class's predictions that is right; 0 without predictions.
        recall: Share of the class's images that is found; 0 without images.
        f1: Harmonic mean of the two.
        recall_low: Of Wilson's interval; a class without images has 0.
        recall_high: A class without images has 1.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    recall_low: float
    recall_high: float

    def as_dict(self) -> dict[str, str | int | float]:
        """Plain values, for JSON."""
        return asdict(self)


def per_class(predictions: Predictions) -> list[ClassRow]:
    """Rows in the order of the classes; labels are taken at their tuned thresholds; none for a task of numbers."""
    reading, told = predictions.reading, predictions.told
    if reading.task == "regression":
        return []
    targets = predictions.targets.numpy()
    if reading.task == "multilabel":
        there, taken = targets > 0, reading.labels(told).numpy()
    else:
        each = np.arange(len(reading.classes))
        there, taken = targets[:, None] == each, told.numpy().argmax(1)[:, None] == each
    counts = zip(reading.classes, (there & taken).sum(0), there.sum(0), taken.sum(0), strict=True)
    return [_row(name, int(hits), int(support), int(predicted)) for name, hits, support, predicted in counts]


def _row(name: str, hits: int, support: int, predicted: int) -> ClassRow:
    return ClassRow(
        name,
        support,
        hits / predicted if predicted else 0.0,
        hits / support if support else 0.0,
        2 * hits / (support + predicted) if support + predicted else 0.0,
        *wilson(hits, support),
    )
