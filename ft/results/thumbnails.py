"""Small pictures inside the page: pixels to ``data:`` addresses."""

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE = 160
QUALITY = 82
# Pixels: of many small pictures with words in one.
SHEET_WIDTH, SHEET_QUALITY = 1000, 70
# Handwritten digits of 8 pixels are shown as squares, not as fog.
SMALL = 64


def picture(pixels: Tensor, side: int = SIDE) -> str:
    """``(C, H, W)`` ``uint8`` of 1, 3 or 4 channels as a JPEG whose longer side is about ``side`` pixels."""
    image = Image.fromarray(as_rgb(pixels).permute(1, 2, 0).contiguous().numpy())
    longer = max(image.size)
    if longer < SMALL:
        factor = max(1, round(side / longer))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    elif longer > side:
        size = tuple(max(1, round(edge * side / longer)) for edge in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return address(image)


def address(image: Image.Image, quality: int = QUALITY) -> str:
    """An RGB image as a ``data:`` address."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def sheet(file: Path) -> str:
    """A contact sheet of a run folder, no wider than a page."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    if image.width > SHEET_WIDTH:
        size = (SHEET_WIDTH, max(1, round(image.height * SHEET_WIDTH / image.width)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return address(image, SHEET_QUALITY)


def as_rgb(pixels: Tensor) -> Tensor:
    """``(3, H, W)`` ``uint8``: grey three times; what is transparent lands on white."""
    if pixels.shape[0] == 1:
        return pixels.expand(3, -1, -1)
    if pixels.shape[0] == 4:
        alpha = pixels[3:].float() / 255
        return (pixels[:3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return pixels


def heated(pixels: Tensor, heat: np.ndarray, side: int) -> str:
    """The picture with what matters in colour and the rest as it is.

    Args:
        pixels: ``(C, H, W)`` ``uint8``.
        heat: ``(H, W)`` in ``[0, 1]``.
        side: Of the result, in pixels.
    """
    from matplotlib import colormaps

    plain = as_rgb(pixels).permute(1, 2, 0).numpy().astype(float)
    colour = 255 * colormaps["inferno"](0.25 + 0.75 * heat)[..., :3]
    share = 0.7 * heat[..., None]
    mixed = (1 - share) * plain + share * colour
    return picture(torch.from_numpy(mixed.round().clip(0, 255).astype(np.uint8)).permute(2, 0, 1), side)
