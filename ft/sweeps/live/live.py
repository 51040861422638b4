"""A sweep while it runs: a table on a terminal; elsewhere one line for each trial that has ended.

trial 3  optimizer=adam lr=0.001  val/acc 0.9412  (best so far)  12.3 s
"""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live as RichLive

from ft.job_folder import FAILED, FINISHED, PRUNED
from ft.page.words import duration_in_words
from ft.sweeps.live.table import LiveTable
from ft.sweeps.ranking import best_first, reason
from ft.sweeps.trial import INTERRUPTED, RUNNING
from ft.sweeps.words import params_in_words, short_names

Row = Mapping[str, Any]
# The trials change every few seconds at most, and drawing takes time from the runs.
REFRESHES_A_SECOND = 2


class Live:
    """Shows what has come of a sweep's trials; a context, inside of which jobs may print wherever they like.

    Args:
        total: How many trials there will be; ``None`` if nobody knows.
        metric: The task's.
        mode: ``max`` or ``min``.
        out: Where to; what ``sys.stdout`` is when this is made. Later redirections do not matter.
    """

    def __init__(self, total: int | None, metric: str, mode: str, out: TextIO | None = None) -> None:
        self.total = total
        self.metric = metric
        self.mode = mode
        self.console = Console(file=sys.stdout if out is None else out, highlight=False, markup=False)
        self.rows: Sequence[Row] = ()
        self._started = time.monotonic()
        self._before: int | None = None
        self._told: set[tuple[int, str]] = set()
        self._reasons: Counter[str] = Counter()
        self._best: float | None = None
        self._table: RichLive | None = None
        self.closed = False

    def __enter__(self) -> "Live":
        self._started = time.monotonic()
        if self.console.is_terminal:
            # What is printed between two jobs goes above the table and does not tear it.
            self._table = RichLive(
                LiveTable(self), console=self.console, refresh_per_second=REFRESHES_A_SECOND, transient=True
            )
            self._table.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def show(self, rows: Sequence[Row]) -> None:
        """Takes the rows of ``trials.json`` as they are now."""
        self.rows = list(rows)
        ended = [row for row in rows if row["state"] not in (RUNNING, INTERRUPTED)]
        if self._before is None:
            self._before = len(ended)
        if self._table is None:
            for row in ended:
                # A finalist ends twice.
                if (row["number"], row["state"]) not in self._told:
                    self._told.add((row["number"], row["state"]))
                    self._print(self._line(row))

    def close(self) -> None:
        """Ends the table, and says how the sweep ended; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        if self._table is not None:
            self._table.stop()
            if self.rows:
                self.console.print(LiveTable(self))
        for line in self._closing():
            self._print(line)

    @property
    def elapsed(self) -> float:
        """Seconds since the sweep began to run."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float | None:
        """Seconds, if the trials to come take as long as those of this call; ``None`` where nothing is known yet."""
        ended = sum(row["state"] not in (RUNNING, INTERRUPTED) for row in self.rows)
        new = ended - (self._before or 0)
        if self.total is None or new <= 0:
            return None
        return self.elapsed / new * max(0, self.total - ended)

    def _line(self, row: Row) -> str:
        names = short_names(key for each in self.rows for key in each["params"])
        parts = [f"trial {row['number']}", params_in_words(row["params"], names)]
        state, value = row["state"], row["value"]
        if state == FAILED:
            why = reason(row)
            self._reasons[why] += 1
            seen = self._reasons[why]
            parts.append(f"failed: {why}" if seen == 1 else f"failed for a reason told above ({seen} times now)")
        elif value is None:
            parts.append(state)
        else:
            parts.append(f"{self.metric} {value:.4f}")
            if state == PRUNED:
                parts.append("(pruned)")
            elif self._best is None or ((value > self._best) == (self.mode == "max") and value != self._best):
                self._best = value
                parts.append("(best so far)")
        return "  ".join([*parts, f"{row['seconds']:.1f} s"])

    def _closing(self) -> list[str]:
        if not self.rows:
            return []
        counts = Counter(str(row["state"]) for row in self.rows)
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        lines = [f"{len(self.rows)} trial{'s' * (len(self.rows) > 1)}: {told}  {duration_in_words(self.elapsed)}"]
        if self.total is not None and (waiting := self.total - len(self.rows)) > 0:
            lines.append(f"not begun: {waiting} of {self.total}; the same command goes on")
        reasons = Counter(reason(row) for row in self.rows if row["state"] == FAILED)
        lines += [f"failed {count} time{'s' * (count > 1)}: {why}" for why, count in reasons.most_common()]
        ranked = best_first(self.rows, self.mode)
        if ranked and ranked[0]["state"] == FINISHED:
            best = ranked[0]
            lines.append(
                f"best  trial {best['number']}  {params_in_words(best['params'])}  {self.metric} {best['value']:.4f}"
            )
        return lines

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)
