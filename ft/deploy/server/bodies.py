"""From the body of a request to the files in it: a form, or JSON with base64."""

import base64
import binascii
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import HTTPException, Request

from ft.deploy.server.form import FIELD, UNPROCESSABLE, Form
from ft.deploy.server.limits import Limits

TOO_LARGE = 413
FIELDS = "images"


async def read_form(request: Request, limits: Limits) -> list[bytes]:
    """Files of the field ``image``.

    Raises:
        HTTPException: 413 or 422, with the reason.
    """
    form = Form(request.headers["content-type"], limits.max_images)
    async for piece in _limited(request, limits.max_bytes):
        form.write(piece)
    return form.images()


async def read_body(request: Request, limits: Limits) -> bytes:
    """All of it.

    Raises:
        HTTPException: 413.
    """
    return b"".join([piece async for piece in _limited(request, limits.max_bytes)])


def json_files(body: bytes, limits: Limits) -> list[bytes]:
    """Files of ``{"image": base64}`` or ``{"images": [base64, ...]}``.

    Raises:
        HTTPException: 422, with the reason.
    """
    try:
        asked = json.loads(body)
    # The latter: a list in a list in a list, ten thousand times.
    except (ValueError, RecursionError) as error:
        raise HTTPException(UNPROCESSABLE, f"the body is not JSON: {error}") from None
    rule = f'the body must be {{"{FIELD}": base64}} or {{"{FIELDS}": [base64, ...]}}'
    if not isinstance(asked, dict):
        raise HTTPException(UNPROCESSABLE, f"{rule}, and is of type {type(asked).__name__}")
    if len(asked) != 1 or not asked.keys() <= {FIELD, FIELDS}:
        raise HTTPException(UNPROCESSABLE, f"{rule}; its keys: {', '.join(asked)[:200] or 'none'}")
    given = asked[FIELDS] if FIELDS in asked else [asked[FIELD]]
    if not isinstance(given, list) or not given:
        raise HTTPException(UNPROCESSABLE, f"{FIELDS!r} must be a list with at least one image")
    if len(given) > limits.max_images:
        raise HTTPException(UNPROCESSABLE, f"{len(given)} images are more than the limit of {limits.max_images}")
    return [_from_base64(each, which(at, len(given))) for at, each in enumerate(given)]


def which(at: int, count: int) -> str:
    """How an image is called when something is wrong with it."""
    return "the image" if count == 1 else f"image {at + 1} of {count}"


def _from_base64(text: Any, name: str) -> bytes:
    if not isinstance(text, str):
        raise HTTPException(UNPROCESSABLE, f"{name} must be base64 text, and is of type {type(text).__name__}")
    # A browser's FileReader puts "data:image/png;base64," before it.
    head, comma, rest = text.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        text = rest
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(UNPROCESSABLE, f"{name} is not base64: {error}") from None


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in pieces, of which no more are taken in than are allowed, whatever its header says or leaves out."""
    too_large = HTTPException(TOO_LARGE, f"the request is larger than the limit of {max_bytes:,} bytes")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > max_bytes:
        raise too_large
    taken = 0
    async for piece in request.stream():
        taken += len(piece)
        if taken > max_bytes:
            raise too_large
        yield piece
