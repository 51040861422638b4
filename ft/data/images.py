"""From a file to pixels, with Pillow alone.

torchvision's own decoders are not used: version 0.29.2 ends the process with a segmentation fault on a PNG
with one flipped byte.
"""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Whatever a file's name ends like, it is one of these. Pillow knows more, and some are programs: it hands EPS to
# Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Pillow warns at this many pixels and refuses at twice as many; here the first limit already refuses,
# before a single pixel is decoded.
MAX_PIXELS = 89_478_485

# What a name may stand for besides a file. Opening a pipe would wait for somebody to write into it.
SPECIAL = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


class UnreadableImage(OSError):
    """An image that cannot be decoded; the message is the reason alone."""


def open_image(path: str, *, draft: int | None = None) -> Image.Image:
    """Decodes an image file, turned upright as its EXIF orientation says; of several pictures the first.

    Args:
        path: Of the file.
        draft: Pixels. A JPEG file may come at 1/2, 1/4 or 1/8 of its size, as long as no side falls below; this costs a
            fraction of the time, and finds the same damage. ``None``: as it is.

    Raises:
        UnreadableImage: It is missing, empty, damaged, no image, or larger than ``MAX_PIXELS``.
    """
    with _header(path) as image:
        if draft is not None:
            image.draft(None, (draft, draft))
        image.load()
        if image.mode == "I" and image.format == "PPM":
            # Pillow has scaled it to 16 bits.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return ImageOps.exif_transpose(image)


def probe_image(path: str) -> None:
    """Reads only the header: cheap enough to do for every file before training starts.

    Raises:
        UnreadableImage: It is missing, empty, no image, or larger than ``MAX_PIXELS``.
    """
    with _header(path):
        pass


def decode_image(path: str) -> None:
    """Decodes everything and keeps nothing: what passes here can be made into a training image.

    Raises:
        UnreadableImage: As ``open_image`` and ``to_mode``.
    """
    to_mode(open_image(path, draft=1), "RGB")


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converts to ``L``, ``RGB`` or ``RGBA``; 16-bit grey keeps its range, transparency lands on white.

    Raises:
        UnreadableImage: Its pixels have no such colours: 32-bit numbers, whose range nobody tells, or damaged palettes.
    """
    if image.mode == mode:
        return image
    if image.mode in ("I", "F"):
        raise UnreadableImage("its pixels are 32-bit numbers of unknown range: store it with 8 or 16 bits")
    with decoding(None):
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if mode != "RGBA" and ("A" in image.getbands() or "transparency" in image.info):
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        # Pillow knows no way from LAB to grey.
        return (image.convert("RGB") if image.mode == "LAB" else image).convert(mode)


def array_to_image(pixels: np.ndarray) -> Image.Image:
    """``(H, W)`` or ``(H, W, 3)`` ``uint8`` as a Pillow image."""
    return Image.fromarray(pixels)


def printable(name: str) -> str:
    """A file's name as text. One that is not UTF-8 can be opened, and neither printed nor written to a file."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@contextmanager
def decoding(path: str | None) -> Iterator[None]:
    """Whatever goes wrong inside with an image is ``UnreadableImage``, with the reason in one line.

    Args:
        path: Of its file, if it has one.
    """
    try:
        yield
    except UnreadableImage:
        raise
    except FileNotFoundError:
        dangling = path is not None and os.path.islink(path)
        raise UnreadableImage("a link to a file that is not there" if dangling else "no such file") from None
    # Pillow's plugins raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, EOFError, IndexError, MemoryError, DecompressionBombError.
    except Exception as error:
        raise UnreadableImage(_reason(error)) from error


@contextmanager
def _header(path: str) -> Iterator[Image.Image]:
    """An image of which nothing is decoded yet."""
    with decoding(path):
        _refuse_what_is_no_file(path)
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if not width or not height:
                raise UnreadableImage(f"{width} x {height} pixels are none")
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}")
            yield image


def _refuse_what_is_no_file(path: str) -> None:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImage(f"{SPECIAL.get(stat.S_IFMT(found.st_mode), 'a device')}, not a file")
    if not found.st_size:
        raise UnreadableImage("the file is empty")


def _reason(error: Exception) -> str:
    """In one line."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


# The size check above is the rule, and Pillow's own warning at the same limit would come before it. Its other warnings
# are of metadata that it could do without: once a file, from every worker.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")
