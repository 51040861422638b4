"""A folder of images: one directory a class, with or without split directories above.

root/train/daisy/1.jpg   root/val/daisy/2.jpg   [root/test/...]      or
root/daisy/1.jpg         root/rose/2.jpg
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ft.data.images import EXTENSIONS, printable
from ft.data.source import FileImages, Source, Split
from ft.errors import UserError

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def folder(*, root: str | None) -> Source:
    """Reads the names of all images below ``root``; no image is opened yet.

    Raises:
        UserError: The folder is missing, holds no images, has a class without images, a class in ``val`` or ``test``
            that ``train`` has not, or split directories without ``train``.
    """
    if not root:
        raise UserError("data=folder needs data.root=PATH: a folder with one directory a class.")
    top = Path(root).expanduser()
    if not top.is_dir():
        raise UserError(f"data.root={root} is not a folder. It must hold one directory a class, or train/ and val/.")
    splits = {
        split: _read(top / name, top) for split, names in SPLIT_NAMES.items() for name in names if (top / name).is_dir()
    }
    if not splits:
        splits = {"train": _read(top, top)}
    elif "train" not in splits:
        raise UserError(f"data.root={root} has {', '.join(splits)} but no train directory.")
    known = set(splits["train"].labels.tolist())
    for name, split in splits.items():
        if extra := sorted(set(split.labels.tolist()) - known):
            raise UserError(f"class {extra[0]!r} is in {name} but not in train, in data.root={root}.")
    return Source(splits)


def _read(top: Path, root: Path) -> Split:
    """All images below ``top``, one class a directory."""
    directories = sorted(entry for entry in top.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not directories:
        raise UserError(f"data.root: {top} has no class directories. It must hold one directory of images a class.")
    paths: list[str] = []
    names: list[str] = []
    labels: list[str] = []
    for directory in directories:
        try:
            found = sorted(_images(str(directory)), key=lambda path: path.split(os.sep))
        except OSError as error:
            raise UserError(f"data.root: {error.filename} cannot be read: {error.strerror}.") from None
        if not found:
            raise UserError(
                f"data.root: class {directory.name!r} has no image in {directory}. "
                f"Remove the directory or add images ({', '.join(sorted(EXTENSIONS))})."
            )
        paths += found
        below, start = directory.relative_to(root).as_posix(), len(str(directory))
        names += [printable(below + path[start:].replace(os.sep, "/")) for path in found]
        labels += [printable(directory.name)] * len(found)
    return Split(FileImages(paths), np.array(labels), names)


def _images(directory: str) -> Iterator[str]:
    """Paths of all images below. The directory says what is a file; asking each one takes ten times as long."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _images(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                # A pipe or a link that leads nowhere too: it is told as an image that cannot be read.
                yield entry.path
