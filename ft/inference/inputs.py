"""Which images are meant: a folder, a file, a glob, or a table with a column of paths."""

import csv
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ft.data.images import EXTENSIONS, printable
from ft.errors import UserError, did_you_mean

AUTO = "auto"


class Listed(NamedTuple):
    """One image.

    Attributes:
        name: For people and for joining: below the folder, in the table, or as the glob or the user says it.
        path: Where it is.
    """

    name: str
    path: str


def find_images(given: str, *, column: str = AUTO) -> list[Listed]:
    """Every image that is meant, none of them opened yet.

    Args:
        given: A folder, searched through to its end (hidden files and folders left out) and sorted; an image; a CSV
            file with a header line; or a glob, where ``**`` goes through folders. A path that exists is no glob.
        column: Of the table: file names, relative to the table's folder. ``auto``: the first in which all that is
            there ends like an image.

    Raises:
        UserError: There is nothing, or no image, at that place; or the table has no such column.
    """
    path = Path(given).expanduser()
    try:
        is_table = path.suffix.lower() == ".csv" and path.is_file()
        if column != AUTO and not is_table:
            raise UserError(f"column={column} is for a CSV file, and input={given} is none.")
        if is_table:
            return _table(path, given, column)
        if path.is_dir():
            found = [Listed(printable(name), str(path / name)) for name in _below(str(path), "")]
            return _some(found, f"input={given} holds no image")
        if path.is_file():
            return [Listed(printable(given), str(path))]
        if glob.has_magic(given):
            matches = sorted(glob.glob(str(path), recursive=True), key=lambda match: match.split(os.sep))
            found = [Listed(printable(m), m) for m in matches if is_image_name(m) and not os.path.isdir(m)]
            return _some(found, f"input={given} matches {f'{len(matches)} paths, no image' if matches else 'nothing'}")
        near = did_you_mean(path.name, os.listdir(path.parent) if path.parent.is_dir() else [])
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"input={given} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    raise UserError(f"input={given}: there is no such file or folder.{near}")


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _some(found: list[Listed], nothing: str) -> list[Listed]:
    if not found:
        raise UserError(f"{nothing} ({', '.join(sorted(EXTENSIONS))}).")
    return found


def _below(folder: str, prefix: str) -> Iterator[str]:
    """Names of all images, those of a folder where its name has its place."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith("."):
            continue  # Among them macOS's ._photo.jpg, which are no images.
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, f"{prefix}{entry.name}/")
        elif is_image_name(entry.name):
            # A pipe or a link that leads nowhere too: it is listed as an image that cannot be read.
            yield prefix + entry.name


def _table(path: Path, given: str, column: str) -> list[Listed]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            header, *rows = [row for row in csv.reader(lines) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"input={given} cannot be read as CSV in UTF-8: {error}.") from None
    if any(is_image_name(cell) for cell in header):
        raise UserError(f"input={given} needs a header line; its first line names an image: {', '.join(header)}.")
    if not rows:
        raise UserError(f"input={given} has no rows below its header line.")
    # A row that ends early has empty cells.
    cells = [[row[at] if at < len(row) else "" for row in rows] for at in range(len(header))]
    if column == AUTO:
        chosen = [at for at, values in enumerate(cells) if _are_images(values)]
        if not chosen:
            raise UserError(f"input={given} has no column of image files: its columns are {', '.join(header)}.")
        at = chosen[0]
    elif column in header:
        at = header.index(column)
    else:
        raise UserError(f"column={column}: the columns are {', '.join(header)}.{did_you_mean(column, header)}")
    # An empty cell is an image without a file, and is told like any other that cannot be read.
    return [Listed(name, str(path.parent / Path(name).expanduser()) if name else "") for name in cells[at]]


def _are_images(values: list[str]) -> bool:
    there = [value for value in values if value]
    return bool(there) and all(map(is_image_name, there))
