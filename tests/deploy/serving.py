"""A server in this process: LitServe's application and its batch loop, with a thread for the worker process."""

import base64
import io
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from litserve.callbacks import CallbackRunner
from litserve.loops import inference_worker
from litserve.transport.process_transport import MPQueueTransport
from PIL import Image
from starlette.testclient import TestClient

from ft.deploy.server.app import build_server
from ft.deploy.server.options import Serving
from ft.inference.predictor import Predictor
from ft.inference.reading import Reading
from ft.input_spec import InputSpec
from tests.conftest import composed

COLOURS = ("red", "green", "blue")
SPEC = InputSpec(8, 8, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)


class ByColour:
    """A model that anybody can check: the logit of a colour is ten times its mean, in ``[0, 1]``."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, 8, 8)
        self.batches.append(len(pixels))
        return pixels.float().mean((2, 3)) / 25.5


def predictor_of(task: str = "classification", run: Any = None, **reading: Any) -> Predictor:
    activation = {"classification": "softmax", "multilabel": "sigmoid", "regression": "linear"}[task]
    card = {"backbone": "by_colour", "run": "first"}
    said = Reading(task, COLOURS, activation, **reading)
    return Predictor(SPEC, said, run or ByColour(), None, None, "runs/first", card)


def serving_of(**changes: Any) -> Serving:
    """The defaults of ``conf/serve.yaml``, small enough to be exceeded."""
    with composed(config="serve") as config:
        wishes: Any = dict(config)
    small = {"run": "made", "max_bytes": 20_000, "max_images": 4, "max_pixels": 10_000}
    return Serving.from_config({**wishes, **small, **changes})


@contextmanager
def answering(predictor: Predictor, **changes: Any) -> Iterator[TestClient]:
    """A client of a server with this model; its ``queue`` holds the requests that wait for it."""
    server = build_server(serving_of(**changes), lambda device, precision: predictor, prepare=lambda: None)
    requests: queue.Queue = queue.Queue()
    server.app.response_queue_id = 0
    server.litapi_request_queues = {"/predict": requests}
    server._transport = MPQueueTransport(None, [queue.Queue()])
    server.workers_setup_status = {"predict_0": "starting"}
    status = server.workers_setup_status
    arguments = (server.lit_api, "cpu", 0, requests, server._transport, status, CallbackRunner(), False)
    worker = threading.Thread(target=inference_worker, args=arguments)
    worker.start()
    try:
        with TestClient(server.app, raise_server_exceptions=False) as client:
            client.queue = requests
            yield client
    finally:
        requests.put((None, None, None, None))
        worker.join()


def image_of(colour: Any, size: tuple[int, int] = (20, 10), format: str = "PNG", **options: Any) -> bytes:
    """An image file of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, format, **options)
    return content.getvalue()


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def form_of(*contents: bytes, field: str = "image") -> list[tuple[str, tuple[str, bytes]]]:
    """Files of a form, as httpx and requests take them."""
    return [(field, (f"{at}.png", content)) for at, content in enumerate(contents)]
