"""LitServe's application with our page, our facts and our words for what went wrong."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import litserve
from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from litserve.utils import set_log_level
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from ft.deploy.server.api import ImageAPI, Worker
from ft.deploy.server.ask import Door
from ft.deploy.server.info import describe_model
from ft.deploy.server.options import Serving
from ft.inference.predictor import Predictor
from ft.processors import processors

PAGE = Path(__file__).parent / "page.html"
PATHS = "GET /, POST /predict, GET /info, GET /health"
# What the page may do: run its own script, and nothing that leaves this server.
POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_server(
    serving: Serving, load: Callable[..., Predictor], *, prepare: Callable[[], object]
) -> litserve.LitServer:
    """The server, before any process is started.

    Args:
        serving: How the user wants it.
        load: Gives the predictor for ``device=`` and ``precision=``; each worker calls it again, and so it must be
            something that can be pickled.
        prepare: Called first in each worker.

    Raises:
        UserError: The model cannot be loaded.
    """
    # On the CPU, and for its facts alone: a mistake is told before any process is there.
    predictor = load(device="cpu", precision=serving.precision)
    info = describe_model(predictor, serving.limits)
    api = ImageAPI(
        Worker(load, prepare, serving.threads, serving.workers, serving.device, serving.precision),
        info["model"],
        max_batch_size=serving.max_batch_size,
        batch_timeout=serving.batch_timeout,
    )
    num_classes = len(predictor.reading.classes) if predictor.reading.task == "classification" else None
    decoding = anyio.CapacityLimiter(processors())
    door = Door(serving.limits, predictor.transform, num_classes, decoding)
    return _with_our_words(_lit_server(api, serving), door, info)


def _lit_server(api: ImageAPI, serving: Serving) -> litserve.LitServer:
    set_log_level("WARNING")
    return litserve.LitServer(
        api,
        accelerator="cpu",  # The device is our API's own business.
        workers_per_device=serving.workers,
        timeout=serving.limits.timeout,
        disable_openapi_url=True,  # /docs would be a page that loads its scripts from a CDN.
    )


def _with_our_words(server: litserve.LitServer, door: Door, info: dict[str, Any]) -> litserve.LitServer:
    app = server.app
    app.state.door = door
    app.state.info = info
    page, headers = _page()

    async def get_page(request: Request) -> Response:
        # A new one each time: compression changes the headers of the one it sends.
        return HTMLResponse(page, headers=headers)

    async def get_info(request: Request) -> Response:
        return JSONResponse(info)

    # Before LitServe's own: the first that fits answers.
    app.router.routes[:0] = [Route("/", get_page), Route("/info", get_info)]
    app.add_exception_handler(HTTPException, _tell)
    app.add_exception_handler(ClientDisconnect, _nobody_listens)
    return server


def _page() -> tuple[str, dict[str, str]]:
    """The page, and headers with which a browser runs this script alone."""
    text = PAGE.read_text(encoding="utf-8")
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return text, {"content-security-policy": POLICY.format(digest=digest), "referrer-policy": "no-referrer"}


async def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason, path = error.detail, request.url.path[:200]
    if error.status_code == 404:
        reason = f"there is no {path}; there are {PATHS}"
    elif error.status_code == 405:
        reason = f"{path} does not take {request.method}; there are {PATHS}"
    return JSONResponse({"error": reason}, error.status_code, error.headers)


async def _nobody_listens(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the request did not arrive whole"}, 400)
