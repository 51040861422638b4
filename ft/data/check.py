"""What is looked at before training starts, while nothing has been written yet."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ft.data.images import UnreadableImage, probe_image
from ft.data.source import Chosen, FileImages, Images, Source
from ft.errors import UserError, one_of


def drop_unreadable(source: Source, *, on_bad: str, known: bool = False) -> Source:
    """Reads every file's header; a file that is no image at all is found here, a damaged body when it is decoded.

    Args:
        source: The data set.
        on_bad: ``error`` refuses the first one, ``skip`` leaves them out and lists them in ``Source.bad``.
        known: All of them could be read before, and none has changed: nothing is read.

    Raises:
        UserError: ``on_bad=error`` and there is one; or nothing is left of a split.
    """
    one_of(on_bad, ("error", "skip"), "data.on_bad")
    if known:
        return source
    splits = {}
    for name, split in source.splits.items():
        paths = file_paths(split.images)
        if paths is None:
            splits[name] = split
            continue
        with ThreadPoolExecutor(4) as pool:
            reasons = list(pool.map(_reason, paths))
        bad = [at for at, why in enumerate(reasons) if why]
        if bad and on_bad == "error":
            raise unreadable(split.names[bad[0]], str(reasons[bad[0]]), len(bad))
        source.bad.extend((split.names[at], str(reasons[at])) for at in bad)
        splits[name] = split.take(np.setdiff1d(np.arange(len(split)), bad)) if bad else split
        if not len(splits[name]):
            raise UserError(f"no image of split {name} can be read; the first: {split.names[0]}: {reasons[0]}.")
    return source.with_splits(splits)


def unreadable(name: str, why: str, count: int = 1) -> UserError:
    """The error for an image that cannot be read under ``on_bad=error``."""
    more = f" ({count - 1} more like it)" if count > 1 else ""
    return UserError(f"{name} cannot be read: {why}{more}. Mend or remove it, or set data.on_bad=skip.")


def file_paths(images: Images) -> list[str] | None:
    """The files behind a collection, in order; ``None`` where there are none."""
    if isinstance(images, FileImages):
        return list(images.paths)
    if isinstance(images, Chosen):
        below = file_paths(images.images)
        return below and [below[int(at)] for at in images.positions]
    return None


def _reason(path: str) -> str | None:
    try:
        probe_image(path)
    except UnreadableImage as error:
        return str(error)
    return None
