"""What predictions say beyond the metrics that training logs: for ``evaluation_<split>.json`` and its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft.inference.predictions import Predictions
from ft.results.per_class import ClassRow, per_class
from ft.results.tables import ends, figure
from ft.scoring.calibration import before_and_after
from ft.scoring.intervals import Interval, intervals
from ft.scoring.metrics import RANKED

# Said by the rows themselves.
IN_ROWS = frozenset({"acc", "f1"})
# Of four digits.
VISIBLE = 5e-5


@dataclass(frozen=True)
class Evaluated:
    """Intervals, rows per class, and the calibration error before and after the temperature.

    Attributes:
        split: Its name.
        num_images: That could be read.
        seed: Of the draws.
        resamples: How many.
        intervals: Of each metric.
        rows: One a class; none for numbers.
        calibration: ``temperature``, ``ece_before``, ``ece_after``; empty for numbers.
    """

    split: str
    num_images: int
    seed: int
    resamples: int
    intervals: dict[str, Interval]
    rows: list[ClassRow]
    calibration: dict[str, float]

    @classmethod
    def of(cls, predictions: Predictions, *, seed: int, resamples: int) -> "Evaluated":
        """Of one split."""
        calibration: dict[str, float] = {}
        if both := before_and_after(predictions):
            temperature = predictions.reading.temperature
            calibration = {"temperature": temperature, "ece_before": both[0].ece, "ece_after": both[1].ece}
        found = intervals(predictions, seed=seed, resamples=resamples)
        return cls(predictions.split, len(predictions), seed, resamples, found, per_class(predictions), calibration)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "images": self.num_images,
            "seed": self.seed,
            "resamples": self.resamples,
            "intervals": {name: each.as_dict() for name, each in self.intervals.items()},
            "rows": [row.as_dict() for row in self.rows],
            "calibration": self.calibration,
        }

    def metric_cells(self, values: Mapping[str, float]) -> dict[str, float | str]:
        """For the table: each metric with its interval, and those that have none, such as the loss, as they are.

        torchmetrics, which training logs, counts 0 for a class that has no image in the split, or all of them, in the
        mean of areas and of average precisions; ``ft.scoring.metrics`` leaves it out. Where that shows, it is said.
        """
        shown: dict[str, float | str] = dict(values)
        for name, each in self.intervals.items():
            key = f"{self.split}/{name}"
            shown[key] = f"{figure(each.value)}   95 %: {ends(each)}"
            if name in RANKED and abs(values.get(key, each.value) - each.value) > VISIBLE:
                shown[key] = f"{shown[key]}   ({figure(values[key])} if classes that cannot be ranked here count 0)"
        return shown

    def class_cells(self, per_class: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float | str]]:
        """For the table: columns of the rows, then what the task has found per class besides.

        Args:
            per_class: Of the task: values of all classes, by name.
        """
        if not self.rows:
            return dict(per_class)
        columns: dict[str, Sequence[float | str]] = {
            "images": [f"{row.support:,}" for row in self.rows],
            "precision": [row.precision for row in self.rows],
            "recall": [row.recall for row in self.rows],
            "95 % of recall": [ends(Interval(row.recall, row.recall_low, row.recall_high)) for row in self.rows],
            "f1": [row.f1 for row in self.rows],
        }
        return {**columns, **{name: values for name, values in per_class.items() if name not in IN_ROWS}}
