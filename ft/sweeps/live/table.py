"""The table of a sweep that runs: the best first, then what runs now; never higher than the screen."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ft.page.words import duration_in_words
from ft.sweeps.ranking import best_first
from ft.sweeps.trial import INTERRUPTED, RUNNING
from ft.sweeps.words import short_names, value_in_words

if TYPE_CHECKING:
    from ft.sweeps.live.live import Live

Row = Mapping[str, Any]
# Lines of the screen that are no trials: the title, the head, the two lines below, and the cursor's.
AROUND = 6
# Of what runs side by side, so many are shown on a low screen.
MOST_RUNNING = 4


class LiveTable:
    """Drawn anew at every refresh, for the screen as wide and high as it is then.

    Args:
        live: Whose rows are shown; when it is closed, those with a value alone.
    """

    def __init__(self, live: "Live") -> None:
        self.live = live

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        rows = self.live.rows
        ranked = best_first(rows, self.live.mode)
        running = [] if self.live.closed else [row for row in rows if row["state"] == RUNNING]
        height = options.max_height if options.height is None else options.height
        shown, now = chosen(ranked, running, max(1, height - AROUND))
        keys = list(dict.fromkeys(key for row in rows for key in row["params"]))
        yield self._table([*shown, *now], keys)
        if not self.live.closed:
            yield Text(self._below(len(ranked) - len(shown)), style="dim", no_wrap=True, overflow="ellipsis")

    def _table(self, rows: Sequence[Row], keys: Sequence[str]) -> Table:
        names = short_names(keys)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column(self.live.metric, justify="right", no_wrap=True)
        for key in keys:
            table.add_column(Text(names[key]), no_wrap=True, overflow="ellipsis")
        table.add_column("time", justify="right", no_wrap=True)
        for place, row in enumerate(rows):
            runs = row["state"] == RUNNING
            value = "running" if runs else f"{row['value']:.4f}"
            cells = [value_in_words(row["params"][key]) if key in row["params"] else "" for key in keys]
            style = "cyan" if runs else "bold green" if place == 0 else ""
            cells = [str(row["number"]), value, *cells, f"{row['seconds']:.1f} s" if row["seconds"] else ""]
            table.add_row(*map(Text, cells), style=style)
        return table

    def _below(self, hidden: int) -> str:
        rows, total = self.live.rows, self.live.total
        counts = Counter(str(row["state"]) for row in rows)
        ended = sum(count for state, count in counts.items() if state not in (RUNNING, INTERRUPTED))
        parts = [f"{ended} of {total}" if total is not None else f"{ended} ended"]
        parts += [f"{counts[state]} {state}" for state in ("running", "pruned", "failed") if counts[state]]
        parts += [f"{hidden} more below"] if hidden > 0 else []
        parts.append(f"{duration_in_words(self.live.elapsed)} elapsed")
        if self.live.left is not None:
            parts.append(f"about {duration_in_words(self.live.left)} left")
        return "   ".join(parts)


def chosen(ranked: Sequence[Row], running: Sequence[Row], lines: int) -> tuple[list[Row], list[Row]]:
    """Which trials with a value, and which that run, are shown in so many lines; the best one always is."""
    now = list(running[: max(0, min(MOST_RUNNING, lines - 1))])
    shown = list(ranked[: max(0, lines - len(now))])
    now += running[len(now) : len(now) + max(0, lines - len(shown) - len(now))]
    return shown, now
