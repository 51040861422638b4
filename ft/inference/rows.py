"""One line of a table for each image, from the words of ``describe``; the same for CSV and Parquet.

classification   image label probability top2_label top2_probability ... [abstained] [probability_<class> ...]
multilabel       image labels probability_<label> ...
regression       image <output> ...
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ft.errors import UserError, require
from ft.inference.predict_images import PROBABILITY_DECIMALS, TOP_K, describe
from ft.inference.reading import Reading

IMAGE = "image"
# Between the labels of one image.
SEPARATOR = ";"


@dataclass(frozen=True)
class Rows:
    """What is written of an image.

    Args:
        reading: Of the predictor.
        top_k: How many classes; ``None``: 3, or all where there are fewer. Classification only.
        probabilities: Adds a column of every class. Regression has none.
        abstain_below: No label below this probability. Classification only.
        threshold: Of every label, instead of the tuned ones. Multi-label only.

    Raises:
        UserError: A value is out of range, or not for this task.
    """

    reading: Reading
    top_k: int | None = None
    probabilities: bool = False
    abstain_below: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        task, classes = self.reading.task, self.reading.classes
        for key, value, fits in (
            ("top_k", self.top_k, task == "classification"),
            ("abstain_below", self.abstain_below, task == "classification"),
            ("threshold", self.threshold, task == "multilabel"),
            ("probabilities", self.probabilities or None, task != "regression"),
        ):
            if value is not None and not fits:
                raise UserError(f"{key}={str(value).lower()} means nothing here: the model was trained for {task}.")
        top_k = min(TOP_K, len(classes)) if self.top_k is None else self.top_k
        require(1 <= top_k <= len(classes), "top_k", f"must be between 1 and {len(classes)}, the classes", top_k)
        for key in ("abstain_below", "threshold"):
            value = getattr(self, key)
            require(value is None or 0 <= value <= 1, key, "must be in [0, 1]", value)
        object.__setattr__(self, "top_k", top_k)
        if self.threshold is not None:
            thresholds = (float(self.threshold),) * len(classes)
            object.__setattr__(self, "reading", replace(self.reading, thresholds=thresholds))

    @property
    def columns(self) -> dict[str, type]:
        """Their names and kinds, in order."""
        task, classes = self.reading.task, self.reading.classes
        if task == "regression":
            return {IMAGE: str, **{name if name != IMAGE else f"{name}_value": float for name in classes}}
        every: dict[str, type] = {f"probability_{name}": float for name in classes}
        if task == "multilabel":
            return {IMAGE: str, "labels": str, **every}
        assert self.top_k is not None
        found: dict[str, type] = {IMAGE: str, "label": str, "probability": float}
        for place in range(2, self.top_k + 1):
            found |= {f"top{place}_label": str, f"top{place}_probability": float}
        if self.abstain_below is not None:
            found["abstained"] = bool
        return {**found, **every} if self.probabilities else found

    def row(self, name: str, told: Tensor) -> list[Any]:
        """Values of ``columns``; ``None`` for no label.

        Args:
            name: Of the image.
            told: ``(K,)``.
        """
        said = describe(self.reading, told, self.top_k, abstain_below=self.abstain_below)
        if self.reading.task == "regression":
            return [name, *said["values"].values()]
        if self.reading.task == "multilabel":
            return [name, SEPARATOR.join(said["labels"]), *said["probabilities"].values()]
        values = [name, said["label"], said["probability"]]
        for other in said["top_k"][1:]:
            values += [other["label"], other["probability"]]
        if self.abstain_below is not None:
            values.append(said["abstained"])
        return values + [round(p, PROBABILITY_DECIMALS) for p in told.tolist()] if self.probabilities else values

    def labels(self, row: list[Any]) -> list[str]:
        """The labels of a row, to be counted: none where the classifier abstained."""
        if self.reading.task == "multilabel":
            return [name for name in row[1].split(SEPARATOR) if name]
        return [row[1]] if self.reading.task == "classification" and row[1] is not None else []
