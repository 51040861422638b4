"""What is taken for what: the confusion matrix as counts and as shares of its rows, and the worst of its pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ft.inference.predictions import Predictions
from ft.page.figures import INK, Plot, draw, shades

# With more classes cells hold no numbers and the axes no names, and the cells are pixels instead of shapes.
READABLE = 24
# A name beyond so many letters is cut on an axis; the tables have it whole.
LONGEST_NAME = 18


@dataclass(frozen=True)
class Pair:
    """Images of one class that are taken for another.

    Attributes:
        true: Number of the class.
        predicted: Number of the other.
        rows: Of the predictions, the surest mistake first.
        share: Of the images of the class.
    """

    true: int
    predicted: int
    rows: list[int]
    share: float


def confusion(predictions: Predictions) -> np.ndarray:
    """``(K, K)`` counts: a row for each true class, a column for each predicted one."""
    k = len(predictions.reading.classes)
    chosen = predictions.told.argmax(1)
    return torch.bincount(predictions.targets * k + chosen, minlength=k * k).reshape(k, k).numpy()


def most_confused(predictions: Predictions, count: int) -> list[Pair]:
    """The ``count`` pairs with the most images; of as many, those with the larger share of their class."""
    matrix = confusion(predictions)
    told, chosen = predictions.told, predictions.told.argmax(1)
    pairs = []
    for true, predicted in np.argwhere(matrix * (1 - np.eye(len(matrix), dtype=int)) > 0).tolist():
        rows = ((predictions.targets == true) & (chosen == predicted)).nonzero().flatten()
        order = told[rows, predicted].argsort(descending=True, stable=True)
        pairs.append(Pair(true, predicted, rows[order].tolist(), len(rows) / int(matrix[true].sum())))
    return sorted(pairs, key=lambda pair: (-len(pair.rows), -pair.share))[:count]


def plots(predictions: Predictions, folder: Path) -> list[Plot]:
    """The matrix twice."""
    matrix = confusion(predictions)
    names = predictions.reading.classes
    shares = matrix / matrix.sum(1, keepdims=True).clip(min=1)
    side = min(7.0, max(4.2, 1.6 + 0.42 * len(names)))
    right, total = int(matrix.trace()), int(matrix.sum())
    alt = f"Confusion matrix of {len(names)} classes, {right} of {total} images on the diagonal"
    return [
        draw(folder, "confusion_counts", f"{alt}, as counts.", _painter(shares, matrix, names, "images"),
             width=side + 0.4, height=side),
        draw(folder, "confusion_shares", f"{alt}, as shares of the true class.",
             _painter(shares, np.round(100 * shares).astype(int), names, "% of the true class"),
             width=side + 0.4, height=side),
    ]  # fmt: skip


def _painter(shares: np.ndarray, numbers: np.ndarray, names: Sequence[str], unit: str) -> Any:
    def paint(axes: Any) -> None:
        count = len(names)
        readable = count <= READABLE
        # Both figures are shaded by shares: a class with few images is as dark as it deserves.
        axes.pcolormesh(shares, cmap=shades(), vmin=0, vmax=1, linewidth=0, rasterized=not readable)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        if readable:
            shown, at = [_cut(name) for name in names], np.arange(count) + 0.5
            axes.set_xticks(at, shown, rotation=45 if count > 4 else 0, ha="right" if count > 4 else "center")
            axes.set_yticks(at, shown)
            for true, predicted in np.argwhere(numbers > 0).tolist():
                axes.text(
                    predicted + 0.5,
                    true + 0.5,
                    f"{numbers[true, predicted]}",
                    ha="center",
                    va="center",
                    fontsize=9 if count <= 12 else 7,
                    color="white" if shares[true, predicted] > 0.55 else INK,
                )
        axes.set(xlabel="predicted", ylabel="true", title=unit)

    return paint


def _cut(name: str) -> str:
    # matplotlib would read what stands between two dollars as a formula.
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")
