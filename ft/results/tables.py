"""What ``ft.compare`` says on the terminal: the runs, every pair, the verdict."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ft.scoring.compare import Comparison, Pair
from ft.scoring.intervals import Interval
from ft.scoring.significance import ALPHA
from ft.show.console import console

PERCENT = "95 % interval"


def comparison_tables(comparison: Comparison, written: Path | None) -> None:
    """The runs, the best first; every pair; the verdict in words."""
    out = console()
    place = {scored.run: at for at, scored in enumerate(comparison.runs, 1)}
    runs = Table("", "run", comparison.metric, PERCENT, title=f"{comparison.split}, {comparison.num_images:,} images")
    for scored in comparison.runs:
        runs.add_row(str(place[scored.run]), escape(scored.run), figure(scored.metric.value), ends(scored.metric))
    out.print(runs)
    tested = any(pair.mcnemar is not None for pair in comparison.pairs)
    corrected = " (Holm)" if len(comparison.pairs) > 1 else ""
    headings = ["only one right", f"McNemar p{corrected}"] if tested else []
    pairs = Table("pair", "difference", PERCENT, f"p{corrected}", *headings, "differ")
    for pair in comparison.pairs:
        counts = [] if pair.mcnemar is None else [_discordant(pair), figure(pair.mcnemar.p_holm)]
        pairs.add_row(
            f"{place[pair.first]} - {place[pair.second]}",
            f"{pair.difference.value:+.4f}",
            f"{pair.difference.low:+.4f} to {pair.difference.high:+.4f}",
            figure(pair.p_holm),
            *counts,
            "yes" if pair.differs else "not distinguishable",
        )
    out.print(pairs)
    for line in summary(comparison):
        out.print(line, soft_wrap=True, markup=False)
    if written is not None:
        out.print(f"written: {written}", soft_wrap=True, markup=False)


def summary(comparison: Comparison) -> list[str]:
    """The verdict on the best run and each other; and where the two tests disagree."""
    best = comparison.runs[0].run
    lines = [f"{pair.verdict}." for pair in comparison.pairs if pair.first == best]
    if comparison.metric == "acc":
        lines += [
            f"The exact McNemar test disagrees on {pair.first} and {pair.second} (p {figure(pair.mcnemar.p_holm)}): "
            "so few images decide it that it should not be relied on."
            for pair in comparison.pairs
            if pair.mcnemar is not None and pair.differs != (pair.mcnemar.p_holm < ALPHA)
        ]
    return lines


def figure(value: float) -> str:
    return f"{value:.4f}"


def ends(interval: Interval) -> str:
    return f"{figure(interval.low)} to {figure(interval.high)}"


def _discordant(pair: Pair) -> str:
    return "" if pair.mcnemar is None else f"{pair.mcnemar.first_only} : {pair.mcnemar.second_only}"
