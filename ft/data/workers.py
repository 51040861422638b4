"""Decoding processes: how they begin, which have died, and which batches are still to come from them."""

import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from signal import Signals
from types import TracebackType
from typing import Any, Protocol

from torch.utils.data._utils import signal_handling

from ft.data.sampler import Key

# In a message; more would not be read.
NAMES_SHOWN = 8
# They are sent to all processes of a run at once; a worker takes them again when it has begun.
HELD = (signal.SIGINT, signal.SIGTERM)


class Batches(Protocol):
    """A sampler: which images make up which batch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Key]]: ...


class Handed:
    """A sampler whose batches come again, to workers that are started anew, until they have been answered.

    Args:
        batches: Asked once a pass.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self._rest: Iterator[list[Key]] = iter(())
        self._open: deque[list[Key]] = deque()

    def __len__(self) -> int:
        return len(self.batches)

    def begin(self) -> None:
        """A new pass."""
        self._rest = iter(self.batches)
        self._open.clear()

    def __iter__(self) -> Iterator[list[Key]]:
        yield from list(self._open)
        for keys in self._rest:
            self._open.append(keys)
            yield keys

    def answered(self) -> None:
        """The first batch that was still open has come."""
        self._open.popleft()

    def open_batch(self, ahead: int) -> list[Key]:
        """One of the batches that are still to come: 0 is the next; empty where there is none."""
        return self._open[ahead] if ahead < len(self._open) else []


@contextmanager
def without_sigchld() -> Iterator[None]:
    """Inside, workers are started without torch's signal handler.

    It raises in the middle of whatever this process does when a worker dies, an optimizer's step too. Without it the
    death is noticed where the next batch is waited for.
    """
    before = signal_handling._SIGCHLD_handler_set
    signal_handling._SIGCHLD_handler_set = True
    try:
        yield
    finally:
        signal_handling._SIGCHLD_handler_set = before


@contextmanager
def signals_held() -> Iterator[None]:
    """Inside, those that end a run wait: a worker that has just been started would not know yet to ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker(worker: int) -> None:
    """A worker's first act: Ctrl-C is for the process that asks it for batches.

    A terminal sends Ctrl-C to the workers too; they are needed for the batch that is still finished. So does
    ``timeout`` with SIGTERM, which would end them: they leave the group of processes that both are sent to.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    sys.excepthook = _tell_unless_hung_up


def _tell_unless_hung_up(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Of a worker's thread that hands over memory: whoever asked for it may have been interrupted before it came.

    An image that cannot be decoded never gets here: torch passes it on to the process that wants the batch.
    """
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, traceback)


def lost_workers(running: Any) -> list[tuple[int, int]]:
    """Process number and exit code of each worker of a loader's iterator that has ended by a fault."""
    workers = getattr(running, "_workers", ())
    return [(worker.pid, worker.exitcode) for worker in workers if worker.exitcode not in (None, 0)]


def unanswered(running: Any, lost: Sequence[tuple[int, int]]) -> list[int]:
    """Which of the batches that are still to come the first lost worker had; 0 is the next.

    Args:
        running: The loader's iterator.
        lost: From ``lost_workers``; where it is empty, the next batch is the one that is waited for.
    """
    if not lost:
        return [0]
    number = [worker.pid for worker in running._workers].index(lost[0][0])
    # torch's own books: a task that has only its worker's number has not been answered.
    asked = [at for at, task in running._task_info.items() if len(task) == 1 and task[0] == number]
    return [at - running._rcvd_idx for at in sorted(asked)]


def told_of(lost: Sequence[tuple[int, int]], num_workers: int, files: Sequence[str], *, timeout: float) -> str:
    """What a user has to know of workers that have died, or hang where none has.

    Args:
        lost: Process number and exit code of each.
        num_workers: There were.
        files: Of the batches that have not come.
        timeout: ``data.timeout``.
    """
    more = f" and {len(files) - NAMES_SHOWN} more" if len(files) > NAMES_SHOWN else ""
    of = f"\nThe batch that did not come: {', '.join(files[:NAMES_SHOWN])}{more}." if files else ""
    if not lost:
        return (
            f"no decoded batch for {timeout:g} s, data.timeout: a decoding process hangs.{of}\n"
            "Mend or move these files, or raise data.timeout; data.num_workers=0 shows where it hangs."
        )
    pid, code = lost[0]
    if code == -9:
        of = ""  # the system ends a process for what all of them use together, whatever image it is at
    how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    likely = ", likely because memory ran out" if code == -9 else ""
    return (
        f"a decoding process (pid {pid}) {how}{likely}.{of}\n"
        f"Set data.num_workers below {num_workers}, or give it more memory (in a container shared memory too)."
    )
