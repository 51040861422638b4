"""SIGTERM ends a verb as Ctrl-C does: what is half-done is left in order, and the exit code says which it was."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ft.errors import Terminated


@contextmanager
def sigterm_ends_in_order() -> Iterator[None]:
    """Inside, SIGTERM is raised as ``Terminated``, unless somebody has said already what it does."""
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Terminated
