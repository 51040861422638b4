"""From the bytes of an image that anybody may have sent to a Pillow image."""

from io import BytesIO

from PIL import Image, ImageOps

from ft.data.images import UnreadableImage

# Those that a data set may hold. Pillow knows more, and some are programs: EPS is handed to Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class TooManyPixels(UnreadableImage):
    """It is larger than the limit; not a pixel was decoded."""


def decode(content: bytes, *, max_pixels: int) -> Image.Image:
    """Decodes an image, turned upright as its EXIF orientation says.

    Args:
        content: The file.
        max_pixels: Width times height.

    Raises:
        TooManyPixels: Its header says so.
        UnreadableImage: It is empty, damaged, or none of ``FORMATS``.
    """
    if not content:
        raise UnreadableImage("the file is empty")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise TooManyPixels(f"{width} x {height} pixels are more than the limit of {max_pixels:,}")
            image.load()
            return ImageOps.exif_transpose(image)
    except UnreadableImage:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImage(f"not an image: it is none of {', '.join(FORMATS)}") from None
    # Pillow's plugins raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, EOFError, IndexError, MemoryError.
    except Exception as error:
        raise UnreadableImage(f"damaged: {error or type(error).__name__}") from error
