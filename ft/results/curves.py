"""Learning curves of ``metrics.csv``, the phases shaded behind them; rates and what plugins log in the same way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ft.page.figures import BLUE, GREEN, INK, ORANGE, PURPLE, RED, Plot, draw
from ft.page.history import History

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE)
# Columns that are about the run and not about the model.
BOOKKEEPING = ("epoch", "step", "open", "lr")
# Every line beyond would be one too many in its picture.
MOST_LINES = 5


def phases(history: History) -> list[tuple[int, int, int]]:
    """First epoch, last epoch and number of open stages of each phase; none where it was not logged."""
    found: list[tuple[int, int, int]] = []
    for epoch, count in zip(history.epochs, history.columns.get("open", []), strict=False):
        if count is None:
            continue
        if found and found[-1][2] == count and found[-1][1] == epoch - 1:
            found[-1] = (found[-1][0], epoch, int(count))
        else:
            found.append((epoch, epoch, int(count)))
    return found


def curves(history: History, folder: Path, *, num_stages: int, metric: str, best: int | None) -> list[Plot]:
    """Losses, metrics, rates, and one figure for each unit that plugins have logged.

    Args:
        history: Of the run.
        folder: Of the PNG files.
        num_stages: Of the model.
        metric: What decided, such as ``val/acc``.
        best: Epoch of the best checkpoint, from 1.
    """
    if not history.epochs:
        return []
    values = [name for name in history.columns if name.startswith("val/") and name != "val/loss"]
    values.sort(key=lambda name: name != metric)
    pictures: list[tuple[str, str, list[str], bool]] = [
        ("loss", "Loss", ["train/loss", "val/loss"], False),
        ("metrics", "Validation metrics", values[:MOST_LINES], False),
        ("learning_rate", "Highest learning rate of an open stage", ["lr"], True),
    ]
    for plugin, names in _by_plugin(history).items():
        title = plugin.replace("_", " ")
        title = f"{title}: {names[0].rpartition('/')[2]}" if len(names) == 1 else title
        pictures.append((f"plugin_{plugin}", title, names[:MOST_LINES], False))
    drawn = []
    for name, title, wanted, log in pictures:
        lines = {each: history.series(each) for each in wanted if each in history.columns}
        if lines:
            alt = f"{title} by epoch: {', '.join(lines)}."
            drawn.append(draw(folder, name, alt, _painter(history, lines, title, log, num_stages, best)))
    return drawn


def _by_plugin(history: History) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in history.columns:
        if name.startswith("plugins/") and name.count("/") == 2:
            found.setdefault(name.split("/")[1], []).append(name)
    return found


def _painter(
    history: History,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    log: bool,
    num_stages: int,
    best: int | None,
) -> Any:
    def paint(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        _shade(axes, phases(history), num_stages)
        for colour, (name, (x, y)) in zip(COLOURS, lines.items(), strict=False):
            marker = "o" if len(x) <= 40 else None
            axes.plot(x, y, label=name.rpartition("/")[2] if len(lines) == 1 else _short(name, lines),
                      color=colour, marker=marker, markersize=3.5)  # fmt: skip
        if best is not None and best >= 1:
            axes.axvline(best, color=INK, linestyle=":", linewidth=1)
        if log and all(value > 0 for _, y in lines.values() for value in y):
            axes.set_yscale("log")
        values = {value for _, y in lines.values() for value in y}
        if len(values) == 1 and not log:
            # One number the whole run long, and not a zoom into nothing.
            axes.set_ylim(min(0.0, 1.2 * min(values)), max(0.0, 1.2 * max(values)) or 1.0)
        axes.set_xlim(history.epochs[0] - 0.5, history.epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch")
        axes.set_title(title, pad=16 if phases(history) else 6)
        if len(lines) > 1:
            axes.legend(loc="best", ncols=min(3, len(lines)), fontsize=8)

    return paint


def _short(name: str, lines: Mapping[str, Any]) -> str:
    """Without what all lines have in common."""
    kinds = {each.partition("/")[0] for each in lines}
    return (
        name.rpartition("/")[2] if len(kinds) == 1 else name.replace("train/loss", "train").replace("val/loss", "val")
    )


def _shade(axes: Any, found: Sequence[tuple[int, int, int]], num_stages: int) -> None:
    """The more of the model is open, the darker."""
    for first, last, count in found:
        axes.axvspan(first - 0.5, last + 0.5, color=BLUE, alpha=0.03 + 0.27 * count / num_stages, linewidth=0)
    previous = None
    for first, last, count in found:
        label = f"{count} of {num_stages} open" if previous is None else f"{count}"
        axes.annotate(
            label,
            ((first + last) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            annotation_clip=False,
        )
        previous = count
