"""A file that cannot be written, in one line: where, why, how many bytes it needs and how many there are."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ft.errors import UserError

# What torch's own writer says where it only knows that fewer bytes arrived than it sent.
OF_TORCH = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos|iostream error|Parent directory")
OF_RUST = re.compile(r"\(os error (\d+)\)")


class NotWritten(UserError, OSError):
    """The disk is full, the folder cannot be written to, or the like."""


@contextmanager
def writing(target: Path, needed: int) -> Iterator[None]:
    """Inside, a failure to write becomes the user's to mend.

    Args:
        target: What is written.
        needed: Its bytes, about.

    Raises:
        NotWritten: One line.
    """
    try:
        yield
    except Exception as error:
        why = reason(error, target, needed)
        if why is None:
            raise
        free = free_bytes(target)
        room = "an unknown number" if free is None else f"{free:,}"
        raise NotWritten(f"{target} cannot be written: {why} ({needed:,} bytes needed, {room} free).") from error


def reason(error: BaseException | None, target: Path, needed: int) -> str | None:
    """Why something could not be written; ``None`` where the error is not of that kind.

    Args:
        error: Of Python, of safetensors, or of torch's writer.
        target: What was to be written.
        needed: Its bytes.
    """
    if error is None or isinstance(error, UserError):
        return None
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if of_rust := OF_RUST.search(str(error)):
        return os.strerror(int(of_rust.group(1)))
    if deeper := reason(error.__context__, target, needed):
        return deeper
    if isinstance(error, RuntimeError) and OF_TORCH.search(str(error)):
        free = free_bytes(target)
        return os.strerror(errno.ENOSPC if free is not None and free < needed else errno.EIO)
    return None


def free_bytes(path: Path) -> int | None:
    """Of the file system that a path is on, or would be; ``None`` where that cannot be told."""
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None
    return None
