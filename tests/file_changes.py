"""Something happens right before a file changes: a process dies, or the system refuses.

Python tells of every file that it opens for writing, moves, links or removes, and of every folder that it makes or
removes. Every way of leaving something half-done lies between two of these moments; and in the middle of a file that
is written, for which ``torn_writes`` adds one.
"""

import itertools
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Event to the argument that is the path that changes, and the one with the folder it is relative to.
CHANGES = {
    "os.rename": (1, 3),
    "os.remove": (0, 1),
    "os.mkdir": (0, 2),
    "os.rmdir": (0, 1),
    "os.link": (1, 3),
    "os.symlink": (1, 2),
    "os.truncate": (0, None),
}


def before_changes(below: str, call: Callable[[str, str], None]) -> None:
    """Calls a function before each change of files, from now on to the end of the process.

    Args:
        below: The folder that is watched.
        call: Gets the event and the path. What it raises, the change raises.
    """

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            written = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            path = str(args[0]) if written else ""
        elif event in CHANGES:
            at, folder = CHANGES[event]
            path = os.fsdecode(args[at]) if isinstance(args[at], str | bytes | os.PathLike) else ""
            if folder is not None and isinstance(args[folder], int) and args[folder] >= 0:
                path = os.path.join(os.readlink(f"/proc/self/fd/{args[folder]}"), path)
        else:
            return
        if path.startswith(below):
            call(event, path)

    sys.addaudithook(hook)


def torn_writes(call: Callable[[str, str], None]) -> None:
    """Calls a function before each flush to the disk too: once as things are, once with half of the file gone.

    Args:
        call: As for ``before_changes``; the event is ``fsync`` or ``torn``. If it comes back, the file is whole again.
    """
    flush = os.fsync

    def torn(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        call("fsync", str(path))
        if path.is_file():
            whole = path.read_bytes()
            os.truncate(path, len(whole) // 2)
            call("torn", str(path))
            path.write_bytes(whole)
        flush(handle)

    os.fsync = torn


def forked(act: Callable[[], None]) -> int:
    """The exit code of a child that does something; negative for a signal, 1 for an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: a test runner may have threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(act: Callable[[], None], below: Path, *, at: int) -> bool:
    """Does something in a child, and kills it before its ``at``-th change; whether it came so far.

    Args:
        act: What the child does.
        below: The folder in which changes count.
        at: From 1.
    """

    def doomed() -> None:
        left = [at]

        def count(event: str, path: str) -> None:
            del event, path
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        before_changes(f"{below}{os.sep}", count)
        torn_writes(count)
        act()

    code = forked(doomed)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def moments(act: Callable[[], None], folder: Path, copies: Path) -> list[Path]:
    """Copies of a folder as a kill before each change would leave it, and one of the end; links stay links.

    Args:
        act: What changes the folder; done in a child.
        folder: The folder.
        copies: Where its copies go, by number.
    """

    def watched() -> None:
        count = itertools.count(1)

        def copy(event: str, path: str) -> None:
            del event, path
            shutil.copytree(folder, copies / f"{next(count):03}", symlinks=True)

        before_changes(f"{folder}{os.sep}", copy)
        torn_writes(copy)
        act()
        copy("end", "")

    assert forked(watched) == 0
    return sorted(copies.iterdir())
