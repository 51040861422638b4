"""One sweep at work: what all parts of its loop need."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ft.sweeps.compose import Composer
from ft.sweeps.folder import SweepFolder
from ft.sweeps.request import Request
from ft.sweeps.running.launch import Launch

Rows = list[dict[str, Any]]


class Work(NamedTuple):
    """What is asked, where it is kept, how it is run, who watches.

    Attributes:
        request: What is asked.
        folder: Where everything is kept.
        composer: Composes the configs of runs.
        launch: Runs jobs.
        show: Told of all rows after every change.
    """

    request: Request
    folder: SweepFolder
    composer: Composer
    launch: Launch
    show: Callable[[Rows], None]

    def tell(self, rows: Rows) -> None:
        """Writes ``trials.json``, and shows it."""
        self.folder.write_rows(rows)
        self.show(rows)
