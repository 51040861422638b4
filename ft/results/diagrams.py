"""Figures of predictions: reliability, predicted against true, residuals, labels that go together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ft.inference.predictions import Predictions
from ft.page.figures import BLUE, GREEN, INK, ORANGE, Plot, draw, shades
from ft.scoring.calibration import Reliability, before_and_after

# Of numbers, so many outputs have figures of their own.
MOST_OUTPUTS = 6
# Labels of which a table of pairs can be read.
MOST_LABELS = 24


def reliability_plots(predictions: Predictions, folder: Path) -> list[Plot]:
    """Before and after temperature scaling, drawn alike; none for numbers."""
    both = before_and_after(predictions)
    if both is None:
        return []
    titles = ("reliability_before", "Before"), ("reliability_after", "After temperature scaling")
    found = []
    for (name, title), measured in zip(titles, both, strict=True):
        alt = f"Reliability diagram, {title.lower()}: expected calibration error {100 * measured.ece:.1f} %."
        found.append(draw(folder, name, alt, _reliability(measured, title), height=3.6))
    return found


def _reliability(measured: Reliability, title: str) -> Any:
    def paint(axes: Any) -> None:
        bins = len(measured.count)
        known = measured.count > 0
        middle = (np.arange(bins)[known] + 0.5) / bins
        share = measured.count[known] / measured.count.sum()
        axes.bar(middle, share, width=0.92 / bins, color=INK, alpha=0.16, label="share of images")
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1, label="calibrated")
        axes.plot(measured.confidence[known], measured.accuracy[known], color=BLUE, linewidth=1.4)
        size = 18 + 160 * share
        axes.scatter(measured.confidence[known], measured.accuracy[known], s=size, color=BLUE, zorder=3, label="right",
                     clip_on=False)  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="confidence", ylabel="share that is right")
        axes.set_title(f"{title}: ECE {100 * measured.ece:.1f} %")
        axes.legend(loc="upper left", fontsize=8)

    return paint


def number_plots(predictions: Predictions, folder: Path) -> list[Plot]:
    """Predicted against true values and the residuals of each output of a regression."""
    found = []
    told, wanted = predictions.told.double().numpy(), predictions.targets.double().numpy()
    for at, name in enumerate(predictions.reading.classes[:MOST_OUTPUTS]):
        title = name.replace("$", r"\$")
        found.append(draw(folder, f"scatter_{at}", f"Predicted against true values of {name}.",
                          _scatter(told[:, at], wanted[:, at], title), height=3.8))  # fmt: skip
        found.append(draw(folder, f"residuals_{at}", f"Histogram of predicted minus true values of {name}.",
                          _residuals(told[:, at] - wanted[:, at], title), height=3.8))  # fmt: skip
    return found


def _scatter(told: np.ndarray, wanted: np.ndarray, title: str) -> Any:
    def paint(axes: Any) -> None:
        ends = float(min(told.min(), wanted.min())), float(max(told.max(), wanted.max()))
        axes.plot(ends, ends, color=INK, linestyle=":", linewidth=1)
        # Thousands of points would be thousands of shapes in the page.
        axes.scatter(wanted, told, s=14, color=BLUE, alpha=0.55, linewidth=0, rasterized=len(told) > 500)
        axes.set(xlabel="true", ylabel="predicted", title=title)

    return paint


def _residuals(residuals: np.ndarray, title: str) -> Any:
    def paint(axes: Any) -> None:
        axes.hist(residuals, bins="auto" if len(set(residuals.tolist())) > 1 else 10, color=GREEN, alpha=0.85)
        axes.axvline(0, color=INK, linestyle=":", linewidth=1)
        axes.axvline(float(residuals.mean()), color=ORANGE, label=f"mean {residuals.mean():.3g}")
        axes.set(xlabel="predicted - true", ylabel="images", title=title)
        axes.legend(fontsize=8)

    return paint


def label_plots(predictions: Predictions, folder: Path) -> list[Plot]:
    """Which labels stand together, as they are and as they are predicted; none beyond ``MOST_LABELS``."""
    names = predictions.reading.classes
    if len(names) > MOST_LABELS:
        return []
    there = predictions.targets.numpy() > 0
    taken = predictions.reading.labels(predictions.told).numpy()
    side = max(4.2, 1.6 + 0.42 * len(names))
    return [
        draw(folder, name, f"Images in which two labels {how} together.", _together(labels, names, title),
             width=side + 0.4, height=side)
        for name, labels, how, title in (
            ("labels_true", there, "stand", "true"), ("labels_predicted", taken, "are predicted", "predicted"))
    ]  # fmt: skip


def _together(labels: np.ndarray, names: Sequence[str], title: str) -> Any:
    def paint(axes: Any) -> None:
        counts = labels.T.astype(int) @ labels.astype(int)
        shares = counts / counts.diagonal()[:, None].clip(min=1)
        axes.pcolormesh(shares, cmap=shades(), vmin=0, vmax=1, linewidth=0)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        at, shown = np.arange(len(names)) + 0.5, [name[:18].replace("$", r"\$") for name in names]
        axes.set_xticks(at, shown, rotation=45, ha="right")
        axes.set_yticks(at, shown)
        for row, column in np.argwhere(counts > 0).tolist():
            colour = "white" if shares[row, column] > 0.55 else INK
            axes.text(column + 0.5, row + 0.5, f"{counts[row, column]}", ha="center", va="center", fontsize=8,
                      color=colour)  # fmt: skip
        axes.set(xlabel="and", ylabel="images with", title=title)

    return paint
