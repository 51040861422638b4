"""What ``sweep=backbones`` has found: a table and a sentence on the console, ``backbones.csv``, ``backbones.png``."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ft.page.figures import BLUE, INK, ORANGE, draw
from ft.run_folder import write_whole
from ft.sweeps.backbones.looks import SECOND, Seen
from ft.sweeps.backbones.sweep import Choice

# Wide enough for all columns when nothing knows the width of the terminal.
PIPED_WIDTH = 140
NAME = "backbones"
COLUMNS: tuple[str, ...] = (
    "candidate", "chosen", "stage", "value", "error", "logme", "parameters", "gmacs", "ms_per_image", "images", "side",
    "weights", "seconds", "state", "message",
)  # fmt: skip


def tell(choice: Choice, folder: Path) -> None:
    """Shows the table and the sentence, and writes the files into the sweep's folder."""
    rows = [columns(seen, chosen=seen is choice.chosen) for seen in choice.seen]
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / f"{NAME}.csv", written.getvalue())
    picture(choice, folder)
    out = Console(highlight=False, markup=False)
    out = out if out.is_terminal else Console(highlight=False, markup=False, width=PIPED_WIDTH)
    out.print(table(choice))
    for line in sentences(choice):
        out.print(line, soft_wrap=True)


def columns(seen: Seen, *, chosen: bool) -> dict[str, Any]:
    """A row of ``backbones.csv``, by name."""
    last = seen.last
    told = last.result.metrics if seen.finished else {}
    return {
        "candidate": seen.candidate.name,
        "chosen": chosen,
        "stage": last.stage,
        "value": last.result.value,
        "error": told.get("cv/se"),
        **{name: told.get(name) for name in ("logme", "parameters", "gmacs", "images", "side")},
        "ms_per_image": seen.milliseconds,
        "weights": seen.candidate.weights,
        "seconds": round(sum(look.result.seconds for look in seen.looks), 2),
        "state": last.result.status,
        "message": last.result.message.replace("\n", " "),
    }


def table(choice: Choice) -> Table:
    """The best first, and those that were looked at once behind those that were looked at twice."""
    found = Table(title="Candidates, cross-validated on frozen features", title_justify="left")
    found.add_column("backbone")
    for name in (choice.metric, "LogME", "parameters", "multiply-adds", "ms/image", "images", "pixels", "s"):
        found.add_column(name, justify="right")
    for seen in ordered(choice):
        at = "* " if seen is choice.chosen else "  "
        if not seen.finished:
            found.add_row(f"{at}{seen.candidate.name}", f"{seen.last.result.status}: {seen.last.result.message}")
            continue
        told = seen.last.result.metrics
        cost = "" if seen.milliseconds is None else f"{seen.milliseconds:.1f}"
        found.add_row(
            f"{at}{seen.candidate.name}",
            f"{seen.last.value:.4f} ± {told['cv/se']:.4f}",
            f"{told['logme']:.3f}",
            f"{told['parameters'] / 1e6:.1f} M",
            f"{told['gmacs']:.2f} G",
            cost,
            f"{told['images']:.0f}",
            f"{told['side']:.0f}",
            f"{sum(look.result.seconds for look in seen.looks):.0f}",
            style="bold" if seen is choice.chosen else None,
        )
    return found


def ordered(choice: Choice) -> list[Seen]:
    """The last looks, the best values first; failures at the end."""
    sign = -1 if choice.mode == "max" else 1
    done = [seen for seen in choice.seen if seen.finished]
    done.sort(key=lambda seen: (-seen.last.stage, sign * seen.last.value))
    return [*done, *(seen for seen in choice.seen if not seen.finished)]


def sentences(choice: Choice) -> list[str]:
    """The decision and its reason; then who was not looked at."""
    chosen, best = choice.chosen, choice.best
    told = chosen.last.result.metrics
    value = f"{choice.metric} {chosen.last.value:.4f} ± {told['cv/se']:.4f} on {told['images']:.0f} held-out images"
    lines = [f"{chosen.candidate.override}: {value}, {_cost(chosen)}."]
    if chosen is not best:
        lines.append(
            f"{best.candidate.name} has {best.last.value:.4f}: these images cannot tell the two apart, and it takes "
            f"{best.cost / chosen.cost:.1f} times as long."
        )
    elif choice.rivals:
        lines.append(f"These images cannot tell {_listed(choice.rivals)} from it, which would cost more.")
    if choice.without:
        lines.append(f"Without pretrained weights in reach, and left out: {', '.join(choice.without)}.")
    return lines


def picture(choice: Choice, folder: Path) -> None:
    """``backbones.png``: the metric with its standard error against milliseconds, areas as parameters."""
    done = [seen for seen in ordered(choice) if seen.finished]
    timed = all(seen.milliseconds is not None for seen in done)
    values = ", ".join(f"{seen.candidate.name} {seen.last.value:.3f}" for seen in done)
    alt = f"Cross-validated {choice.metric} of the candidates against their cost: {values}."

    def paint(axes: Any) -> None:
        for seen in done:
            told = seen.last.result.metrics
            colour = ORANGE if seen is choice.chosen else BLUE
            fresh = seen.last.stage == max(each.last.stage for each in done)
            axes.errorbar(seen.cost, seen.last.value, yerr=told["cv/se"], color=colour, capsize=3, linewidth=1.2)
            axes.scatter(seen.cost, seen.last.value, s=20 + 8 * told["parameters"] / 1e6, color=colour, zorder=3,
                         facecolor=colour if fresh else "none", linewidth=1.4)  # fmt: skip
            axes.annotate(seen.candidate.name, (seen.cost, seen.last.value), xytext=(7, 5), color=INK,
                          textcoords="offset points", fontsize=8)  # fmt: skip
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.2)
        axes.xaxis.set_major_formatter(lambda x, at: f"{x:g}")
        axes.xaxis.set_minor_formatter(lambda x, at: f"{x:g}")
        axes.set(xlabel="milliseconds an image" if timed else "parameters", ylabel=choice.metric)
        axes.set_title("Solved head on frozen features" + _legend(done))

    draw(folder, NAME, alt, paint, width=6.4, height=3.8)


def _legend(done: Sequence[Seen]) -> str:
    stages = {seen.last.stage for seen in done}
    return " (filled: at full resolution)" if len(stages) > 1 or stages == {SECOND} else " (at low resolution)"


def _cost(seen: Seen) -> str:
    size = f"{seen.last.result.metrics['parameters'] / 1e6:.1f} M parameters"
    return size if seen.milliseconds is None else f"{size}, {seen.milliseconds:.1f} ms an image"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
