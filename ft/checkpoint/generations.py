"""Where the checkpoints of one name are: whole folders with numbers, and the name itself, which leads to the newest.

    checkpoints/  last -> last.8   last.8  last.7        best -> best.3   best.3

    1  .last.new        written file by file, and flushed to the disk
    2  last.9           the same, renamed: whole, and nobody's yet
    3  last -> last.9   the link is replaced, in one move
    4  last.7           goes

Wherever this is cut off, the name leads to a whole checkpoint, and the one before it is there too: a run goes on from
it where the newest turns out to be damaged. What a cut has left behind goes with the next save.

A folder in the place of the link, of an older run or of a copy that followed links, counts as the newest; the next
save gives it a number.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ft.checkpoint.manifest import MANIFEST, read_manifest, verify
from ft.errors import UserError

# How many are kept. Before the best there was one that was not better; what is whole besides is ``last``.
KEPT = {"best": 1}
OF_OTHERS = 2


def current(target: Path) -> Path:
    """The folder to read: the name itself, or the newest number where the name leads nowhere."""
    return target if target.is_dir() else next(iter(numbered(target).values()), target)


def numbered(target: Path) -> dict[int, Path]:
    """Number to folder of all checkpoints of a name, the newest first."""
    found: dict[int, Path] = {}
    for path in target.parent.glob(f"{target.name}.*"):
        number = path.name.removeprefix(f"{target.name}.")
        if number.isascii() and number.isdecimal() and path.is_dir() and not path.is_symlink():
            found[int(number)] = path
    return dict(sorted(found.items(), reverse=True))


def put(fresh: Path, target: Path) -> None:
    """Makes a folder the newest checkpoint of a name.

    Args:
        fresh: Whole and on the disk; beside the target.
        target: The name.

    Raises:
        OSError: Nothing has changed then.
    """
    there = numbered(target)
    before = _led_to(target) or next(iter(there.values()), None)
    for path in there.values():
        if path == before:
            break
        if before != target:
            # Written whole, and cut off before the name led to it; or damaged, and not what the run went on from.
            discard(path)
    number = max(numbered(target), default=0) + 1
    generation = target.with_name(f"{target.name}.{number + 1 if before == target else number}")
    aside = target.with_name(f"{target.name}.{number}") if before == target else None
    fresh.rename(generation)
    try:
        to_disk(target.parent)
        lead(target, generation, aside=aside)
    except OSError:
        discard(generation)
        raise
    before = aside or before
    keep = [generation, before][: KEPT.get(target.name, OF_OTHERS)]
    for path in numbered(target).values():
        if path not in keep:
            discard(path)
    shutil.rmtree(_beside(target, "old"), ignore_errors=True)


def lead(target: Path, generation: Path, *, aside: Path | None = None) -> None:
    """Makes a name lead to one of its checkpoints, in one move.

    Args:
        target: The name.
        generation: Beside it.
        aside: Where a folder that has the name goes.

    Raises:
        OSError: It still leads where it did.
    """
    link = _beside(target, "link")
    link.unlink(missing_ok=True)
    link.symlink_to(generation.name, target_is_directory=True)
    try:
        if aside is not None:
            # From here to the next line alone the name leads nowhere; ``current`` knows.
            target.rename(aside)
        link.replace(target)
    except OSError:
        with suppress(OSError):
            link.unlink(missing_ok=True)
        if aside is not None and not target.exists():
            with suppress(OSError):
                aside.rename(target)
        raise
    # If a power cut undoes the move, the name leads to the one before.
    with suppress(OSError):
        to_disk(target.parent)


def recover(target: Path, *, repair: bool) -> Path:
    """The newest checkpoint of a name that is whole.

    Args:
        target: The name.
        repair: Says what is damaged, and makes the name lead to what is whole: for one process of a run.

    Raises:
        UserError: There is none.
    """
    first = _led_to(target)
    others = [path for path in numbered(target).values() if path != first]
    candidates = others if first is None else [first, *others]
    told: list[str] = []
    for path in candidates:
        try:
            manifest = verify(path)
        except UserError as error:
            told.append(str(error))
            continue
        if repair and told:
            print("\n".join(told), flush=True)
            print(f"going on from {path}, which is whole: epoch {manifest['epoch']}", flush=True)
        if repair and path != first:
            with suppress(OSError):
                if first == target:
                    discard(target)
                lead(target, path)
        return path
    if not told:
        raise UserError(f"{target} is not a checkpoint: it has no {MANIFEST}.")
    raise UserError("\n".join([*told[:2], "There is no other checkpoint to go on from: begin a new run."]))


def whole_beside(folder: Path) -> str:
    """A sentence that names a whole checkpoint beside a damaged one."""
    for name in ("last", "best"):
        target = folder.with_name(name)
        for path in dict.fromkeys([current(target), *numbered(target).values()]):
            if not path.exists() or path.samefile(folder):
                continue
            with suppress(UserError):
                verify(path)
                return (
                    f"\n{path} is whole (epoch {read_manifest(path)['epoch']}): resume=RUN goes on from the last one."
                )
    return "\nNo other checkpoint beside it is whole."


def discard(path: Path) -> None:
    """Deletes a checkpoint, under another name first: nobody finds a half of it. What cannot be deleted stays."""
    doomed = path.with_name(f".{path.name.partition('.')[0]}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(OSError):
        path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _led_to(target: Path) -> Path | None:
    """Where a name leads: to one of its numbers, to itself where it is a folder, or nowhere."""
    there = target.parent / os.readlink(target) if target.is_symlink() else target
    return there if there.is_dir() else None


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")
