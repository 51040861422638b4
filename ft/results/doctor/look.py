"""Each image is decoded once, and only what the checks need is kept of it: a kilobyte an image.

    file --> sha256 of its bytes
         --> pixels (JPEG: at a fraction of its size) --> sha256, pHash, dHash, a small grey thumbnail

pHash and dHash: the ``imagehash`` package; 64 bits each that stay much the same when an image is encoded anew
or resized.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from PIL import ExifTags, Image

from ft.data.check import file_paths
from ft.data.images import open_image, to_mode
from ft.results.doctor.subject import Part, Subject

THUMBNAIL = 32
# Twice the thumbnail, and as much as pHash looks at.
DRAFT = 2 * THUMBNAIL
# Orientations that turn an image by a quarter.
ON_ITS_SIDE = (5, 6, 7, 8)
THREADS = 4


@dataclass(frozen=True)
class Look:
    """What is kept of an image.

    Attributes:
        file: sha256 of its bytes; empty where there is no file.
        pixels: sha256 of the decoded picture in RGB, and its size.
        phash: 64 bits.
        dhash: 64 bits.
        thumbnail: ``(32, 32)`` ``uint8`` grey.
        width: Pixels, upright.
        height: Likewise.
        mode: As it is stored, in words.
    """

    file: str
    pixels: str
    phash: int
    dhash: int
    thumbnail: np.ndarray
    width: int
    height: int
    mode: str


@dataclass(frozen=True)
class Looks:
    """All images that could be read.

    Attributes:
        rows: ``(R,)`` which rows of the subject they are.
        looks: One each.
        unreadable: The other rows, and why.
    """

    rows: np.ndarray
    looks: list[Look]
    unreadable: dict[int, str]

    def column(self, name: str, dtype: Any = None) -> np.ndarray:
        """``(R, ...)`` one attribute of all looks."""
        return np.array([getattr(look, name) for look in self.looks], dtype=dtype)


def look_at_all(subject: Subject, tick: Callable[[], None]) -> Looks:
    """Decodes every image once.

    Args:
        subject: The data set.
        tick: Called after each image.
    """
    looks: list[Look] = []
    rows: list[int] = []
    unreadable: dict[int, str] = {}
    everything = (found for part in subject.parts.values() for found in _looks(part))
    for row, found in enumerate(everything):
        if isinstance(found, Look):
            looks.append(found)
            rows.append(row)
        else:
            unreadable[row] = found
        tick()
    return Looks(np.array(rows, dtype=np.int64), looks, unreadable)


def look_at_file(path: str) -> Look:
    """Of a file.

    Raises:
        OSError: It cannot be read.
    """
    image = open_image(path, draft=DRAFT)
    # The header once more: a draft does not know how large it would have been.
    with Image.open(path) as header:
        width, height = header.size
        sideways = header.getexif().get(ExifTags.Base.Orientation) in ON_ITS_SIDE
        mode = stored_mode(header)
    size = (height, width) if sideways else (width, height)
    file = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return replace(look_at_image(image), file=file, width=size[0], height=size[1], mode=mode)


def look_at_image(image: Image.Image) -> Look:
    """Of an image in memory."""
    rgb = to_mode(image, "RGB")
    grey = rgb.convert("L")
    return Look(
        file="",
        pixels=digest(rgb),
        phash=_bits(imagehash.phash(grey)),
        dhash=_bits(imagehash.dhash(grey)),
        thumbnail=np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)),
        width=image.width,
        height=image.height,
        mode=stored_mode(image),
    )


def digest(rgb: Image.Image) -> str:
    """sha256 of a picture's size and pixels."""
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


def stored_mode(image: Image.Image) -> str:
    """How the pixels are stored, for people: ``RGB``, ``grey``, ``CMYK``, ``palette with transparency`` ..."""
    words = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette", "RGBA": "RGB"}
    words |= dict.fromkeys(("I;16", "I;16B", "I;16L", "I"), "16-bit grey")
    transparent = "A" in image.getbands() or "transparency" in image.info
    return words.get(image.mode, image.mode) + (" with transparency" if transparent else "")


def _looks(part: Part) -> Iterator[Look | str]:
    """In order; a reason in the place of an image that cannot be read."""
    paths = file_paths(part.images)
    if paths is not None:
        # Pillow decodes without holding Python's lock.
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(lambda path: _try(look_at_file, path), paths)
        return
    for position in range(len(part.images)):
        yield _try(lambda at: look_at_image(part.images[at]), position)


def _try(look: Callable[[Any], Look], which: Any) -> Look | str:
    try:
        return look(which)
    except OSError as error:
        return str(error)


def _bits(found: imagehash.ImageHash) -> int:
    return int(np.packbits(np.asarray(found.hash).reshape(-1)).view(np.uint64)[0])
