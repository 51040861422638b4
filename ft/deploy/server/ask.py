"""From an HTTP request to the pixels of its images. Whatever is wrong with one is a 4xx with the reason, never a 500.

multipart/form-data   field ``image``, once or repeated
application/json      {"image": BASE64}  or  {"images": [BASE64, ...]}
query                 top_k=3
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
import numpy as np
from fastapi import Depends, HTTPException, Request

from ft.data.images import UnreadableImage
from ft.data.transforms import EvaluationTransform
from ft.deploy.server.bodies import TOO_LARGE, json_files, read_body, read_form, which
from ft.deploy.server.decode import TooManyPixels, decode
from ft.deploy.server.form import UNPROCESSABLE
from ft.deploy.server.limits import Limits

TIMEOUT, UNSUPPORTED = 408, 415
FORM, JSON = "multipart/form-data", "application/json"


@dataclass(frozen=True)
class Asked:
    """A request as the worker gets it.

    Attributes:
        pixels: ``(N, C, H, W)`` ``uint8``: an array, because torch would hand a tensor over by a file descriptor.
        top_k: Classes to name; ``None`` for as many as usual.
    """

    pixels: np.ndarray
    top_k: int | None


@dataclass(frozen=True)
class Door:
    """What a request has to get past, the same for all.

    Attributes:
        limits: What it may weigh.
        transform: From a Pillow image to ``(C, H, W)`` ``uint8``.
        num_classes: Of a classifier; ``None`` for a task without a ``top_k``.
        decoding: How many images are decoded at the same time, whole, and so what memory has to hold.
    """

    limits: Limits
    transform: EvaluationTransform
    num_classes: int | None
    decoding: anyio.CapacityLimiter


async def ask(request: Request) -> Asked:
    """Reads, checks and decodes a request.

    Raises:
        HTTPException: 408, 413, 415 or 422, with the reason.
    """
    door: Door = request.app.state.door
    top_k = _top_k(request, door.num_classes)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (FORM, JSON):
        given = f"the content type is {kind[:100]}" if kind else "there is no content type"
        raise HTTPException(UNSUPPORTED, f"{given}, and it must be {FORM} or {JSON}")
    try:
        async with asyncio.timeout(door.limits.timeout):
            content = await (read_form if kind == FORM else read_body)(request, door.limits)
    except TimeoutError:
        raise HTTPException(TIMEOUT, f"the request took more than {door.limits.timeout:g} s to arrive") from None
    pixels = await anyio.to_thread.run_sync(_pixels, content, door, limiter=door.decoding)
    return Asked(pixels, top_k)


# FastAPI calls ``ask`` for whatever is annotated with this.
AskedFor = Annotated[Asked, Depends(ask)]


def _pixels(content: list[bytes] | bytes, door: Door) -> np.ndarray:
    """``(N, C, H, W)`` ``uint8``; one image is in memory whole at a time."""
    files = json_files(content, door.limits) if isinstance(content, bytes) else content
    return np.stack([_decoded(file, door, which(at, len(files))) for at, file in enumerate(files)])


def _decoded(file: bytes, door: Door, name: str) -> np.ndarray:
    try:
        return door.transform(decode(file, max_pixels=door.limits.max_pixels)).numpy()
    except TooManyPixels as error:
        raise HTTPException(TOO_LARGE, f"{name}: {error}") from None
    except UnreadableImage as error:
        raise HTTPException(UNPROCESSABLE, f"{name} cannot be read: {error}") from None


def _top_k(request: Request, num_classes: int | None) -> int | None:
    given = request.query_params.getlist("top_k")
    if not given:
        return None
    if num_classes is None:
        raise HTTPException(UNPROCESSABLE, "top_k is for classification, and this model has another task")
    text = given[-1]
    # int() takes Arabic digits, blanks and underscores too.
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= num_classes):
        raise HTTPException(UNPROCESSABLE, f"top_k must be a whole number from 1 to {num_classes}, got {text[:40]!r}")
    return int(text)
