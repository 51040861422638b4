"""A server in this process, with a thread for its worker process; and one as the shell starts it."""

import base64
import io
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
from tests.test_command_line import ROOT

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
            server._transport.close()  # wakes who waits for answers, once a second otherwise
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


class Served:
    """``python -m ft.serve`` as the shell starts it, on a free port, once it answers."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ft.serve", "port=0", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs ignore Ctrl-C, and their children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            start_new_session=True,
        )
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"(http://\S+)/ ", line):
                self.url = found[1]
                return
        raise AssertionError(f"it never answered: {self.said} {self.process.communicate()[1]}")

    def family(self) -> list[int]:
        """Process ids of all that are in its session, itself among them."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, rest = stat.read_text().split(" ", 1)
            except OSError:
                continue  # it has ended meanwhile
            # proc(5): after the name in brackets come state, parent, group and session.
            state, _, _, session = rest.rpartition(")")[2].split()[:4]
            if int(session) == self.process.pid and state != "Z":
                found.append(int(pid))
        return found

    def end(self) -> tuple[int, str]:
        """Exit code and what it said on stderr; whatever is left of it is killed."""
        try:
            _, errors = self.process.communicate(timeout=60)
        finally:
            for pid in self.family():
                os.kill(pid, signal.SIGKILL)
        return self.process.returncode, errors
