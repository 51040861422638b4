"""What prediction shows: a bar on a terminal, a line now and then in a pipe, and how it went."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ft.inference.tables import readable
from ft.inference.write import Written
from ft.show.console import console

T = TypeVar("T")
# A line in a pipe: not sooner than this after the last one, and not for less than this share of all.
SECONDS, SHARE = 10.0, 0.05
# Of images that could not be read, and of labels.
SHOWN = 10


def counted(
    batches: Iterable[T], total: int, size: Callable[[T], int], *, clock: Callable[[], float] = time.monotonic
) -> Iterator[T]:
    """The same batches; shows how far it is.

    Args:
        batches: Of images.
        total: Images.
        size: Images of a batch.
        clock: Seconds.
    """
    out = console()
    if not out.is_terminal:
        yield from _lines(batches, total, size, clock)
        return
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=out, transient=True) as bar:
        task, started, done = bar.add_task("", total=total, rate=""), clock(), 0
        for batch in batches:
            yield batch
            done += size(batch)
            bar.update(task, completed=done, rate=f"{done / max(clock() - started, 1e-9):.0f} images/s")


def _lines(batches: Iterable[T], total: int, size: Callable[[T], int], clock: Callable[[], float]) -> Iterator[T]:
    started = said = clock()
    done = said_at = 0
    for batch in batches:
        yield batch
        done += size(batch)
        now = clock()
        if done < total and now - said >= SECONDS and done - said_at >= SHARE * total:
            print(f"{done:,} of {total:,} images, {done / (now - started):.0f} a second", flush=True)
            said, said_at = now, done


def predicted(written: Written, files: Sequence[Path], seconds: float) -> None:
    """How often each label was said, what could not be read, where everything is.

    Args:
        written: What was written.
        files: That may have been written.
        seconds: From the first image to the last.
    """
    out = console()
    most = written.labels.most_common(SHOWN)
    if most:
        more = ", ..." if len(written.labels) > len(most) else ""
        out.print(", ".join(f"{name} {count:,}" for name, count in most) + more, markup=False, soft_wrap=True)
    if written.abstained:
        out.print(f"abstained {written.abstained:,}")
    for name, why in written.bad[:SHOWN]:
        out.print(f"left out: {readable(name) or '(no file name)'}: {why}", markup=False, soft_wrap=True)
    if len(written.bad) > SHOWN:
        out.print(f"and {len(written.bad) - SHOWN:,} more that could not be read")
    done = written.images + len(written.bad)
    out.print(f"{written.images:,} images predicted in {seconds:.1f} s, {done / seconds:.0f} a second")
    for file in files:
        if file.exists():
            out.print(f"written: {file}", markup=False, soft_wrap=True)
