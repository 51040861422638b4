"""A bar for each pass over the images, which vanishes when it is done; a line each where there is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bars(out: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Gives what makes a bar of a title and a total, and gives what is to be called with each number that is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:

        def begin(title: str, total: int) -> Callable[[int], None]:
            if not out.is_terminal:
                out.print(f"{title}: {total:,}", style="dim")
            task = progress.add_task(title, total=total)
            return lambda done: progress.advance(task, done)

        yield begin
