"""Every kind of file that turns up among images, made on the spot: what becomes of it is said beside it."""

import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

RED = (200, 40, 40)
SIZE = (24, 16)


@dataclass(frozen=True)
class Kind:
    """One kind.

    Attributes:
        make: Writes it to a path, of which a test may have given the name.
        name: Of the file.
        size: Of the picture that is read, upright.
        why: Pattern of the reason for which it is refused; empty: it is read.
        colour: Of its middle in RGB; ``None`` where that says nothing.
    """

    make: Callable[[Path], object]
    name: str = "x.jpg"
    size: tuple[int, int] = SIZE
    why: str = ""
    colour: tuple[int, int, int] | None = RED


def encoded(kind: str = "PNG", image: Image.Image | None = None, **options) -> bytes:
    """A picture as a file's content."""
    out = BytesIO()
    (image or Image.new("RGB", SIZE, RED)).save(out, kind, **options)
    return out.getvalue()


def noise(kind: str, **options) -> bytes:
    """A picture that does not compress."""
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8)
    return encoded(kind, Image.fromarray(pixels), **options)


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG of any header, with chunks of anything before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_png() -> bytes:
    """16 bits a channel."""
    row = b"\0" + struct.pack(">3H", *(channel * 257 for channel in RED)) * SIZE[0]
    return png(*SIZE, depth=16, rows=row * SIZE[1])


def wide_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header says another size."""
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def with_segments(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with application segments after its first marker."""
    extra = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return data[:2] + extra + data[2:]


def tiff(tags: list[tuple[int, int, int, int]], pixels: bytes = b"") -> bytes:
    """A little-endian TIFF of these tags: number, type, count, value."""
    body = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", 0) + pixels


def plain_tiff(**changes: tuple[int, int, int]) -> bytes:
    """Uncompressed grey of 4 x 4, with tags changed: ``t256=(type, count, value)``."""
    tags = {256: (3, 1, 4), 257: (3, 1, 4), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {278: (3, 1, 4), 279: (4, 1, 16)}
    tags |= {int(name[1:]): value for name, value in changes.items()}
    start = 8 + 2 + 12 * len({273, *tags}) + 4
    tags = {273: (4, 1, start), **tags}
    return tiff([(number, *value) for number, value in tags.items()], b"\x80" * 16)


def frames(kind: str) -> bytes:
    """Red, then blue."""
    blue = Image.new("RGB", SIZE, "blue")
    return encoded(kind, save_all=True, append_images=[blue, blue], **({"lossless": True} if kind == "WEBP" else {}))


def with_alpha(mode: str, colour: tuple[int, ...]) -> bytes:
    return encoded("PNG", Image.new(mode, SIZE, colour))


def palette(*, transparent: bool) -> bytes:
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, *RED])
    return encoded("PNG", image, **({"transparency": b"\xff\x00"} if transparent else {}))


def texts(size: int, *, compressed: bool) -> bytes:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "x" * size, zip=compressed)
    return encoded("PNG", pnginfo=info)


def link_to(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def unix_socket(path: Path) -> None:
    """A path of a socket may have a hundred bytes, so it is made from within its folder."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def folder_with_a_photo(path: Path) -> None:
    path.mkdir()
    (path / "inside.png").write_bytes(encoded())


PNG, JPEG = encoded(), encoded("JPEG", quality=95)
GREY = (128, 128, 128)

KINDS = {
    "a truncated JPEG": Kind(content(noise("JPEG")[:-200]), why="truncated"),
    "a truncated PNG": Kind(content(noise("PNG")[:-400]), why="truncated"),
    "a truncated WebP": Kind(content(noise("WEBP")[:-100]), why="."),
    "a truncated BMP": Kind(content(encoded("BMP")[:-400]), why="truncated"),
    "a truncated GIF": Kind(content(noise("GIF")[:-200]), why="."),
    "a byte flipped in the header of a PNG": Kind(content(flipped(PNG, 18)), why="."),
    "a byte flipped in the body of a PNG": Kind(content(flipped(noise("PNG"), 200)), why="."),
    "a byte flipped in the header of a JPEG": Kind(content(flipped(JPEG, 0)), why="not an image that Pillow knows"),
    # No sum in the file tells it from a good one.
    "a byte flipped in the body of a JPEG": Kind(content(flipped(noise("JPEG", quality=95), -200)), colour=None),
    "an empty file": Kind(content(b""), why="^the file is empty$"),
    "a text": Kind(content(b"no picture at all\n"), why="^not an image that Pillow knows$"),
    "a program that Ghostscript would run": Kind(
        content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"),
        why="^not an image that Pillow knows$",
    ),
    "a PNG named .jpg": Kind(content(PNG)),
    "a WebP named .jpg": Kind(content(encoded("WEBP", lossless=True))),
    "a CMYK JPEG": Kind(content(encoded("JPEG", Image.new("CMYK", SIZE, (0, 200, 200, 55)))), colour=(200, 43, 43)),
    "16-bit grey": Kind(content(encoded("PNG", Image.fromarray(np.full(SIZE[::-1], 32768, np.uint16)))), colour=GREY),
    "16-bit RGB": Kind(content(deep_png())),
    "16-bit grey PGM": Kind(content(b"P5 24 16 65535\n" + b"\x80\x00" * 384), "x.ppm", colour=GREY),
    "a palette": Kind(content(palette(transparent=False))),
    "a palette with transparency": Kind(content(palette(transparent=True)), colour=(255, 255, 255)),
    "grey with transparency": Kind(content(with_alpha("LA", (128, 255))), colour=GREY),
    "half transparent": Kind(content(with_alpha("RGBA", (*RED, 128))), colour=(227, 147, 147)),
    "one bit": Kind(content(encoded("PNG", Image.new("1", SIZE, 1))), colour=(255, 255, 255)),
    "an animated GIF": Kind(content(frames("GIF"))),
    "an animated WebP": Kind(content(frames("WEBP"))),
    "an animated PNG": Kind(content(frames("PNG"))),
    "a TIFF of several pages": Kind(content(frames("TIFF")), "x.tif"),
    "a photo turned by its EXIF": Kind(content(encoded("JPEG", quality=95, exif=exif(6))), size=SIZE[::-1]),
    "EXIF that is garbage": Kind(content(with_segments(JPEG, (0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x7f" * 99)))),
    "EXIF with a damaged orientation": Kind(
        content(with_segments(JPEG, (0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x0c\0\x09\0\0\0\xff\xff\0\0")))
    ),
    "no pixels": Kind(content(png(0, 16)), why="."),
    "a GIF of no pixels": Kind(content(b"GIF89a" + b"\0" * 7 + b";"), why="."),
    "60,000 x 60,000 PNG": Kind(content(png(60_000, 60_000)), why="pixels"),
    "60,000 x 60,000 JPEG": Kind(content(wide_jpeg(60_000, 60_000)), why="pixels"),
    "a TIFF of 60,000 x 60,000": Kind(content(plain_tiff(t256=(4, 1, 60_000), t257=(4, 1, 60_000))), why="pixels"),
    "9,500 x 9,500, just above the limit": Kind(content(png(9_500, 9_500)), why="9500 x 9500 pixels are more than"),
    "much in a small file": Kind(
        content(png(2_000, 2_000, depth=1, colour=0, rows=bytes(251 * 2_000))), size=(2_000, 2_000), colour=(0, 0, 0)
    ),
    "a small text that grows to 16 MiB": Kind(content(texts(1 << 24, compressed=True)), why="too large"),
    "3 MiB of text": Kind(content(texts(3 << 20, compressed=False))),
    "3 MiB of segments": Kind(content(with_segments(JPEG, *[(0xE2, b"ICC_PROFILE\0" + bytes(64_000))] * 48))),
    "a colour profile that is garbage": Kind(
        content(with_segments(JPEG, (0xE2, b"ICC_PROFILE\0\1\1" + b"\x7f" * 999)))
    ),
    "a link to itself": Kind(link_to("x.jpg"), why="(?i)symbolic links"),
    "a link to nothing": Kind(link_to("gone.jpg"), why="^a link to a file that is not there$"),
    "a link to a device": Kind(link_to("/dev/zero"), why="^a device, not a file$"),
    "a link to a folder": Kind(link_to("/"), why="^a folder, not a file$"),
    "a named pipe": Kind(os.mkfifo, why="^a named pipe, not a file$"),
    "a socket": Kind(unix_socket, why="^a socket, not a file$"),
    "a folder named .jpg": Kind(folder_with_a_photo, "x.jpg"),
    "a name with a line break": Kind(content(PNG), "a\nb.jpg"),
    "a name with an emoji": Kind(content(PNG), "\N{CAT FACE}.jpg"),
    "a name with quotes": Kind(content(PNG), 'it\'s "so" `$(id)`.jpg'),
    "a name with a dash in front": Kind(content(PNG), "-rf.jpg"),
    "a name with percent signs": Kind(content(PNG), "%s%n{0}[bold].jpg"),
    "a name that is not UTF-8": Kind(content(PNG), os.fsdecode(b"caf\xe9.jpg")),
    "a damaged file of a name that is not UTF-8": Kind(content(PNG[:50]), os.fsdecode(b"caf\xe9.jpg"), why="."),
    "a damaged file of a name with a line break": Kind(content(PNG[:50]), "a\nb.jpg", why="."),
    "a name of 255 bytes": Kind(content(PNG), "x" * 251 + ".jpg"),
    "1 x 1": Kind(content(encoded("PNG", Image.new("RGB", (1, 1), RED))), size=(1, 1)),
    "1 x 5,000": Kind(content(encoded("PNG", Image.new("RGB", (1, 5000), RED))), size=(1, 5000)),
    "32-bit floats": Kind(content(encoded("TIFF", Image.new("F", SIZE, 0.5))), "x.tif", why="32-bit numbers"),
    "32-bit integers": Kind(content(encoded("TIFF", Image.new("I", SIZE, 70_000))), "x.tif", why="32-bit numbers"),
    "colours as LAB": Kind(content(encoded("TIFF", Image.new("LAB", SIZE, (50, 0, 0)))), "x.tif", colour=None),
    "a TIFF": Kind(content(plain_tiff()), "x.tif", size=(4, 4), colour=GREY),
    "a TIFF with four thousand million tags": Kind(
        content(plain_tiff(t270=(2, 0xFFFFFFF0, 12))), "x.tif", size=(4, 4), colour=GREY
    ),
    "a TIFF whose pixels are elsewhere": Kind(content(plain_tiff(t273=(4, 1, 0x7FFFFFFF))), "x.tif", why="."),
    "a TIFF with strips of absurd size": Kind(
        content(plain_tiff(t259=(3, 1, 5), t278=(4, 1, 0xFFFFFFFF), t279=(4, 1, 0xFFFFFFFF))), "x.tif", why="."
    ),
    "a TIFF with tiles of absurd size": Kind(
        content(plain_tiff(t259=(3, 1, 5), t322=(4, 1, 1 << 30), t323=(4, 1, 1 << 30), t324=(4, 1, 8), t325=(4, 1, 8))),
        "x.tif",
        why=".",
    ),
}

REFUSED = {name: kind for name, kind in KINDS.items() if kind.why}
READ = {name: kind for name, kind in KINDS.items() if not kind.why}
