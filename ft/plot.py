"""Pictures that plugins leave in the run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def lines(
    file: Path,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    logx: bool = False,
    from_zero: bool = False,
    marks: Mapping[str, float] | None = None,
) -> None:
    """Draws curves into a PNG file.

    Args:
        file: Replaced if it exists.
        series: Label to x and y.
        xlabel: With the unit.
        ylabel: With the unit.
        title: Of the picture.
        logx: Whether x is logarithmic.
        from_zero: Whether y begins at 0.
        marks: Label to an x that is marked by a vertical line.
    """
    figure, axes = _figure(7, 4)
    for label, (x, y) in series.items():
        axes.plot(x, y, label=label, marker="o" if len(x) <= 40 else None, markersize=3)
    for label, x in (marks or {}).items():
        axes.axvline(x, label=label, color="0.4", linestyle="--", linewidth=1)
    if logx:
        axes.set_xscale("log")
    elif all(float(x).is_integer() for xs, _ in series.values() for x in xs):
        axes.xaxis.set_major_locator(_whole_numbers())
    if from_zero:
        axes.set_ylim(0, 1.1 * max((y for _, ys in series.values() for y in ys), default=0) or 1)
    axes.grid(alpha=0.3)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(series) + len(marks or {}) > 1:
        axes.legend()
    figure.savefig(file, dpi=120)


def grid(
    file: Path,
    cells: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    xlabel: str,
    title: str,
) -> None:
    """Draws a table of values in ``[0, 1]`` as shades into a PNG file, the first row at the bottom."""
    figure, axes = _figure(max(4, 1.5 + 0.45 * len(columns)), max(2.5, 1 + 0.35 * len(rows)))
    axes.pcolormesh([[float(value) for value in row] for row in cells], cmap="Greens", vmin=0, vmax=1.3,
                    edgecolors="white", linewidth=2)  # fmt: skip
    axes.set_xticks([at + 0.5 for at in range(len(columns))], columns)
    axes.set_yticks([at + 0.5 for at in range(len(rows))], rows)
    axes.set(xlabel=xlabel, title=title)
    figure.savefig(file, dpi=120)


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # The object interface: pyplot would keep global state, and look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
