"""A byte changed anywhere in an image of any format: it is read or refused with a reason, and the process lives."""

import os
import random
import re
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ft.data.images import UnreadableImage, decode_image, open_image, to_mode
from tests.data.bad_kinds import encoded, exif, frames, palette, texts

# Flips that one child process tries: it is its exit status that tells of a death.
A_CHILD = 50


def samples() -> dict[str, bytes]:
    """A valid file of each format, with what hides in its header."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    smooth = Image.fromarray(pixels).resize((56, 40)).convert("RGB")
    grey = smooth.convert("L")
    return {
        "jpg": encoded("JPEG", smooth, quality=80, exif=exif(6)),
        "progressive.jpg": encoded("JPEG", smooth, progressive=True),
        "cmyk.jpg": encoded("JPEG", smooth.convert("CMYK")),
        "png": encoded("PNG", smooth),
        "text.png": texts(2000, compressed=True),
        "palette.png": palette(transparent=True),
        "apng.png": frames("PNG"),
        "gif": encoded("GIF", smooth),
        "frames.gif": frames("GIF"),
        "webp": encoded("WEBP", smooth),
        "frames.webp": frames("WEBP"),
        "bmp": encoded("BMP", smooth),
        "palette.bmp": encoded("BMP", smooth.convert("P")),
        "tif": encoded("TIFF", smooth),
        "lzw.tif": encoded("TIFF", smooth, compression="tiff_lzw"),
        "jpeg.tif": encoded("TIFF", smooth, compression="jpeg"),
        "fax.tif": encoded("TIFF", grey.convert("1"), compression="group4"),
        "deep.tif": encoded("TIFF", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)),
        "ppm": encoded("PPM", smooth),
    }


def outcome(path: str, look) -> str:
    try:
        look(path)
    except UnreadableImage as error:
        return "refused" if re.fullmatch(r"\S.*", str(error)) else f"no reason: {error!r}"
    return "read"


def changed(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    # Half of them where the header is.
    at = draw.randrange(min(len(found), 160) if draw.random() < 0.5 else len(found))
    found[at] ^= draw.randrange(1, 256)
    return bytes(found)


def try_some(folder: Path, seeds: range) -> None:
    """In a process of its own.

    Raises:
        AssertionError: Training and the check before it disagree, or there is no reason.
    """
    files = list(samples().items())
    for seed in seeds:
        name, data = files[seed % len(files)]
        path = folder / f"x.{name}"
        path.write_bytes(changed(data, random.Random(seed)))
        try:
            trained = outcome(str(path), lambda path: to_mode(open_image(path), "RGB"))
            assert outcome(str(path), decode_image) == trained in ("read", "refused")
            with (folder / "told").open("a") as told:
                told.write(f"{name} {trained}\n")
        except BaseException:
            print(f"seed {seed}, {name}", file=sys.stderr)
            raise


def flip(folder: Path, count: int) -> dict[str, int]:
    """Counts by outcome; fails where a process died."""
    for start in range(0, count, A_CHILD):
        child = os.fork()
        if not child:
            code = 1
            try:
                try_some(folder, range(start, min(start + A_CHILD, count)))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, f"seeds from {start} on: {status}"
    lines = (folder / "told").read_text().splitlines()
    assert len(lines) == count
    return {kind: sum(line.endswith(kind) for line in lines) for kind in ("read", "refused")}


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(150, marks=pytest.mark.full),
        pytest.param(2000, marks=pytest.mark.soak),
    ],
)
def test_a_changed_byte_ends_no_process(tmp_path, count):
    told = flip(tmp_path, count)
    print(told)
    assert told["read"] >= count // 10
    assert told["refused"] >= count // 10


def test_every_sample_is_good(tmp_path):
    for name, data in samples().items():
        path = tmp_path / f"x.{name}"
        path.write_bytes(data)
        assert outcome(str(path), lambda path: to_mode(open_image(path), "RGB")) == "read", name
