"""From a file to pixels, with Pillow alone.

torchvision's own decoders are not used: version 0.29.2 ends the process with a segmentation fault on a PNG
with one flipped byte.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Pillow warns at this many pixels and refuses at twice as many; here the first limit already refuses,
# before a single pixel is decoded.
MAX_PIXELS = 89_478_485


class UnreadableImage(OSError):
    """An image that cannot be decoded; the message is the reason alone."""


def open_image(path: str, *, draft: int | None = None) -> Image.Image:
    """Decodes an image file, turned upright as its EXIF orientation says.

    Args:
        path: Of the file.
        draft: Pixels. A JPEG file may come at 1/2, 1/4 or 1/8 of its size, as long as no side falls below; this costs a
            fraction of the time, and finds the same damage. ``None``: as it is.

    Raises:
        UnreadableImage: It is missing, empty, damaged, no image, or larger than ``MAX_PIXELS``.
    """
    try:
        with Image.open(path) as image:
            _refuse_bomb(image)
            if draft is not None:
                image.draft(None, (draft, draft))
            image.load()
            return ImageOps.exif_transpose(image)
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage("no such file") from None
    # Pillow's plugins raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, EOFError, IndexError, MemoryError, DecompressionBombError.
    except Exception as error:
        raise UnreadableImage(_reason(error, path)) from error


def probe_image(path: str) -> None:
    """Reads only the header: cheap enough to do for every file before training starts.

    Raises:
        UnreadableImage: It is missing, empty, no image, or larger than ``MAX_PIXELS``.
    """
    try:
        if Path(path).stat().st_size == 0:
            raise UnreadableImage("the file is empty")
        with Image.open(path) as image:
            _refuse_bomb(image)
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage("no such file") from None
    except Exception as error:
        raise UnreadableImage(_reason(error, path)) from error


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converts to ``L``, ``RGB`` or ``RGBA``; 16-bit grey keeps its range, transparency lands on white."""
    if image.mode == mode:
        return image
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if mode != "RGBA" and ("A" in image.getbands() or "transparency" in image.info):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert(mode)


def array_to_image(pixels: np.ndarray) -> Image.Image:
    """``(H, W)`` or ``(H, W, 3)`` ``uint8`` as a Pillow image."""
    return Image.fromarray(pixels)


def _refuse_bomb(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}")


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image that Pillow knows"
    return str(error).replace(repr(path), "the file") or type(error).__name__


# The size check above is the rule; Pillow's own warning at the same limit would come first and be an error in tests.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
