"""Parallel coordinates: a line a trial, through an axis a parameter, to its value; the better, the stronger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ft.page.figures import BLUE, CARD, INK, ORANGE, Plot, draw
from ft.sweeps.report.axis import ABSENT, Axis
from ft.sweeps.report.material import Material, Row

# More would be too close to each other to be read.
MOST_AXES = 8
# Where the line of a trial without the parameter crosses its axis.
BELOW = -0.1


def parallel_plot(material: Material, keys: Sequence[str], folder: Path) -> list[Plot]:
    """One figure; none for fewer than two trials with a value, or without a parameter.

    Args:
        material: Of the sweep.
        keys: Parameters, the most important first.
        folder: Of the PNG files.
    """
    if len(material.searched) < 2 or not material.ranked or not keys:
        return []
    axes = [Axis.of(material, key) for key in keys[:MOST_AXES]]
    alt = f"Parallel coordinates of {len(material.searched)} trials: {', '.join(axis.name for axis in axes)}."
    width = max(7.6, 1.5 * (len(axes) + 1))
    return [draw(folder, "parallel", alt, _painter(material, axes), width=min(width, 11.0), height=4.0)]


def _painter(material: Material, axes: Sequence[Axis]) -> Any:
    rows = material.searched
    values = [row["value"] for row in rows]
    low, high = min(values), max(values)

    def height(row: Row) -> float:
        return (row["value"] - low) / (high - low) if high > low else 0.5

    def path(row: Row) -> list[float]:
        found = [axis.value(row) for axis in axes]
        shares = [BELOW if value is None else axis.share(value) for axis, value in zip(axes, found, strict=True)]
        return [*shares, height(row)]

    def paint(canvas: Any) -> None:
        count = len(axes) + 1
        from matplotlib.collections import LineCollection
        from matplotlib.colors import to_rgba

        best = material.ranked[0]["number"]
        rest = [row for row in reversed(rows) if row["number"] != best]
        colours = [to_rgba(BLUE, 0.08 + 0.6 * ((place + 1) / len(rest)) ** 2) for place in range(len(rest))]
        canvas.add_collection(
            LineCollection([list(enumerate(path(row))) for row in rest], colors=colours, linewidths=1.1)
        )
        winner = next(path(row) for row in rows if row["number"] == best)
        canvas.plot(range(count), winner, color=ORANGE, linewidth=2.4, label="best")
        absent = any(axis.value(row) is None for axis in axes for row in rows)
        for at, axis in enumerate(axes):
            _axis(canvas, at, axis.ticks(), absent and any(axis.value(row) is None for row in rows))
        shown = [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")] if high > low else [(0.5, f"{low:.4g}")]
        _axis(canvas, count - 1, shown, False)
        heads = [_head(axis) for axis in axes]
        canvas.set_xticks(range(count), [*heads, material.searched_metric.replace(" ", "\n", 1)])
        canvas.xaxis.tick_top()
        canvas.tick_params(length=0)
        canvas.set_yticks([])
        canvas.set(xlim=(-0.35, count - 0.55), ylim=(BELOW - 0.06 if absent else -0.06, 1.06))
        canvas.grid(visible=False)
        for side in canvas.spines.values():
            side.set_visible(False)

    return paint


def _head(axis: Axis) -> str:
    name = axis.name.replace("$", r"\$")
    # Two lines where one would reach the next axis.
    return name.replace("_", "_\n", 1) if len(name) > 14 else name


def _axis(canvas: Any, at: int, ticks: Sequence[tuple[float, str]], absent: bool) -> None:
    canvas.plot([at, at], [0, 1], color=INK, linewidth=0.8, zorder=3)
    every = max(1, -(-len(ticks) // 12))
    for share, name in [*ticks[::every], *([(BELOW, ABSENT)] if absent else [])]:
        canvas.plot([at - 0.015, at], [share, share], color=INK, linewidth=0.8, zorder=3)
        canvas.annotate(
            name, (at, share), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5, zorder=4,
            color=INK, annotation_clip=False,
            bbox={"facecolor": CARD, "alpha": 0.7, "linewidth": 0, "pad": 0.6},
        )  # fmt: skip
