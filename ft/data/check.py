"""What is looked at before training starts, while nothing has been written yet: images that cannot be read.

error                 reads every file's header; a damaged body ends the run when it is met
skip, quarantine      decodes every image once, so that those that are left out are known before anything depends on how
                      many there are: splits, order and weights are those of the same data without them
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ft.data.images import UnreadableImage, decode_image, probe_image
from ft.data.source import ArrayImages, Bad, Chosen, FileImages, Images, Source, Split
from ft.errors import UserError, one_of
from ft.processors import processors

POLICIES = ("error", "skip", "quarantine")
# Position in a split to the reason.
Found = Mapping[int, str]


def drop_unreadable(source: Source, *, on_bad: str, decode: bool) -> Source:
    """The data set without the images that cannot be read.

    Args:
        source: The data set.
        on_bad: ``error`` refuses the first one, ``skip`` and ``quarantine`` leave them out and list them in
            ``Source.bad``.
        decode: Whether everything is decoded; else headers are read.

    Raises:
        UserError: ``on_bad=error`` and there is one; or nothing is left of a split or of a class.
    """
    one_of(on_bad, POLICIES, "data.on_bad")
    return leave_out(source, {name: find_bad(s.images, decode=decode) for name, s in source.splits.items()}, on_bad)


def find_bad(images: Images, *, decode: bool) -> dict[int, str]:
    """Position and reason of those that cannot be read. Images in memory can; without ``decode``, so can all but files.

    Args:
        images: Of a split.
        decode: Whether everything is decoded; else headers are read.
    """
    look = _look(images, decode=decode)
    if look is None:
        return {}
    # Pillow decodes without holding Python's lock; what is behind other collections may not bear several threads.
    threads = 4 if not decode else max(4, processors())
    with ThreadPoolExecutor(threads if file_paths(images) else 1) as pool:
        reasons = pool.map(lambda at: _reason(look, at), range(len(images)))
        return {at: why for at, why in enumerate(reasons) if why is not None}


def leave_out(source: Source, found: Mapping[str, Found], on_bad: str) -> Source:
    """The data set without these.

    Args:
        source: The data set.
        found: By split.
        on_bad: As for ``drop_unreadable``.

    Raises:
        UserError: As ``drop_unreadable``.
    """
    splits = {}
    for name, split in source.splits.items():
        bad = found.get(name, {})
        if bad and on_bad == "error":
            raise unreadable(split.names[min(bad)], bad[min(bad)], len(bad))
        paths = file_paths(split.images)
        source.bad.extend(Bad(split.names[at], why, paths[at] if paths else None) for at, why in sorted(bad.items()))
        splits[name] = split.take(np.setdiff1d(np.arange(len(split)), list(bad))) if bad else split
        _refuse_what_is_lost(name, split, splits[name], bad)
    return source.with_splits(splits)


def unreadable(name: str, why: str, count: int = 1) -> UserError:
    """The error for an image that cannot be read under ``on_bad=error``."""
    more = f" ({count - 1} more like it)" if count > 1 else ""
    return UserError(f"{in_a_line(name)} cannot be read: {why}{more}. Mend or remove it, or set data.on_bad=skip.")


def in_a_line(name: str) -> str:
    """A name as it can be shown: one that holds a line break or the like in quotes, with escapes."""
    return name if name.isprintable() else repr(name)


def file_paths(images: Images) -> list[str] | None:
    """The files behind a collection, in order; ``None`` where there are none."""
    if isinstance(images, FileImages):
        return list(images.paths)
    if isinstance(images, Chosen):
        below = file_paths(images.images)
        return below and [below[int(at)] for at in images.positions]
    return None


def _look(images: Images, *, decode: bool) -> Callable[[int], object] | None:
    """Looks at the image at a position; ``None`` where there is no need."""
    paths = file_paths(images)
    if paths is not None:
        of_file = decode_image if decode else probe_image
        return lambda at: of_file(paths[at])
    below = images
    while isinstance(below, Chosen):
        below = below.images
    return images.__getitem__ if decode and not isinstance(below, ArrayImages) else None


def _refuse_what_is_lost(name: str, split: Split, kept: Split, bad: Found) -> None:
    """A class that is gone would make a model of fewer classes, and no one would notice."""
    if not bad:
        return
    first = f"{in_a_line(split.names[min(bad)])}: {bad[min(bad)]}"
    if not len(kept):
        raise UserError(f"no image of split {name} can be read; the first: {first}.")
    if name == "train" and split.labels.ndim == 1 and split.labels.dtype.kind in "US":
        lost = np.setdiff1d(split.labels, kept.labels)
        if len(lost):
            raise UserError(
                f"no image of class {str(lost[0])!r} can be read in split {name}; the first that cannot: {first}. "
                "Mend them, or take the class away."
            )


def _reason(look: Callable[[int], object], at: int) -> str | None:
    try:
        look(at)
    except UnreadableImage as error:
        return str(error)
    return None
