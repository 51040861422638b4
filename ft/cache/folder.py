"""The cache folder: one folder an entry, one writer at a time, the least recently used goes first.

    ~/.cache/ft/  activations/<key>/  decoded/<key>/  machine/<key>/     each with an about.json for people
                  locks/<kind>-<key>.lock                                 empty; a lock ends with its process

The place is ``FT_CACHE_DIR``, else ``XDG_CACHE_HOME/ft``, else ``~/.cache/ft``. Everything in it can be deleted at any
time: a run that has it open goes on, the next one computes it again.
"""

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

KINDS = ("activations", "decoded", "machine")
ABOUT = "about.json"
SUM = "sum"


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        kind: One of ``KINDS``.
        key: Its name below the kind.
        path: Its folder.
        bytes: Size of all its files.
        last_used: As ``time.time()`` tells it.
        about: Its ``about.json``; empty where that is missing or damaged.
    """

    kind: str
    key: str
    path: Path
    bytes: int
    last_used: float
    about: dict[str, Any] = field(hash=False)


def cache_dir() -> Path:
    """Where the cache is; it need not exist yet."""
    if named := os.environ.get("FT_CACHE_DIR"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ft"


def place(kind: str, key: str) -> Path:
    """The folder of an entry; it is not made here."""
    assert kind in KINDS, kind
    return cache_dir() / kind / key


def make(path: Path) -> Path:
    """Makes an entry's folder. What is in it shows a user's images, so that others cannot read a cache we make.

    Raises:
        OSError: The place cannot be written to.
    """
    cache_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Gives an empty folder that becomes the entry when the body is done, in the place of one that is there already.

    Raises:
        OSError: The place cannot be written to; like an error of the body, it leaves nothing behind.
    """
    unfinished = make(path.with_name(f"{path.name}.{secrets.token_hex(4)}"))
    try:
        yield unfinished
        _delete(path)
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def write_about(path: Path, about: dict[str, Any]) -> None:
    """Writes an entry's ``about.json`` with a sum of what it says, whole or not at all."""
    about = json.loads(json.dumps(about))
    unfinished = path / f"{ABOUT}.{secrets.token_hex(4)}"
    unfinished.write_text(json.dumps({**about, SUM: content_hash(about)}, indent=1), encoding="utf-8")
    unfinished.replace(path / ABOUT)


def read_about(path: Path) -> dict[str, Any]:
    """An entry's ``about.json``; empty where that is missing, or not what was written."""
    try:
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        return about if about.pop(SUM) == content_hash(about) else {}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


def content_hash(content: Any) -> str:
    """Of plain values, whatever order their names are in."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def entries(kind: str | None = None) -> list[Entry]:
    """All entries, or those of one kind; the least recently used first."""
    found = []
    for each in KINDS if kind is None else (kind,):
        with suppress(OSError):
            for path in sorted((cache_dir() / each).iterdir()):
                # One that disappears meanwhile is none.
                with suppress(OSError):
                    found.append(
                        Entry(each, path.name, path, _bytes(path), _stamp(path).stat().st_mtime, read_about(path))
                    )
    return sorted(found, key=lambda entry: entry.last_used)


def touch(path: Path) -> None:
    """Marks an entry as used now; in a cache that is read-only it stays as it is."""
    with suppress(OSError):
        os.utime(_stamp(path))


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Inside, no other process and no other thread has the entry locked.

    Args:
        path: An entry's folder, which need not exist.
        wait: Waits until the other is done; else the body runs unlocked, and is told so.

    Yields:
        Whether the lock is ours: always, with ``wait``.

    Raises:
        OSError: The place cannot be written to.
    """
    file = cache_dir() / "locks" / f"{path.parent.name}-{path.name}.lock"
    cache_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.mkdir(exist_ok=True)
    lock = FileLock(file)
    with suppress(Timeout):
        lock.acquire(blocking=wait)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def make_room(needed: int, *, limit: int, kind: str | None = None, unused_since: float = math.inf) -> bool:
    """Removes the least recently used entries, those locked now excepted, until the rest and ``needed`` fit.

    Args:
        needed: Bytes to come.
        limit: Bytes that all entries may take together.
        kind: Counts and removes only entries of this kind.
        unused_since: Entries that were used at or after this time, as ``time.time()`` tells it, stay.

    Returns:
        Whether there is room now. Nothing is removed where all that could go would not be enough.
    """
    present = entries(kind)
    excess = needed + sum(entry.bytes for entry in present) - limit
    movable = [entry for entry in present if entry.last_used < unused_since]
    if excess > sum(entry.bytes for entry in movable):
        return False
    for entry in movable:
        if excess <= 0:
            break
        if remove(entry):
            excess -= entry.bytes
    return excess <= 0


def remove(entry: Entry) -> bool:
    """Deletes an entry; ``False`` where somebody has it locked or it cannot be deleted."""
    try:
        with locked(entry.path, wait=False) as ours:
            if not ours:
                return False
            _delete(entry.path)
    except OSError:
        return False
    return True


def reserve(path: Path, size: int) -> None:
    """Makes a new file of ``size`` bytes, all zero, whose place on the disk is taken now.

    A sparse file would end the process with SIGBUS later, when a page of its memory map finds no place; so would
    shortening a file that another process has mapped, and a file of this name is replaced.

    Raises:
        OSError: ``ENOSPC``: there is no place for it; nothing is left behind.
    """
    path.unlink(missing_ok=True)
    try:
        with path.open("xb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            # AttributeError: not every system has it; nor every file system.
            except (AttributeError, OSError) as error:
                if getattr(error, "errno", errno.EINVAL) not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                file.truncate(size)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def free_bytes() -> tuple[int, int]:
    """Free bytes and all bytes of the disk that holds the cache."""
    existing = next(each for each in (cache_dir(), *cache_dir().parents) if each.exists())
    usage = shutil.disk_usage(existing)
    return usage.free, usage.total


def in_words(size: int) -> str:
    """A number of bytes in MiB or GiB."""
    return f"{size / 2**20:,.1f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"


def age(entry: Entry) -> float:
    """Days since an entry was last used."""
    return max(0.0, time.time() - entry.last_used) / 86_400


def _delete(path: Path) -> None:
    """Under another name first, so that nobody finds half of it."""
    doomed = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()


def _stamp(path: Path) -> Path:
    return path / ABOUT if (path / ABOUT).exists() else path


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
