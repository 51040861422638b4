"""The model in its own process, as LitServe calls it: pixels of several requests to one forward pass to answers."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any

import litserve
import torch
from litserve.utils import set_log_level
from torch import Tensor

from ft.deploy.server.ask import AskedFor
from ft.deploy.server.loop import PatientLoop
from ft.errors import UserError
from ft.inference.predict_images import describe
from ft.inference.predictor import Predictor

USER_ERROR = 2
# How many images of a batch belong to one request, and its ``top_k``.
Share = tuple[int, int | None]


@dataclass(frozen=True)
class Worker:
    """How a process gets its model, and computes with it.

    Attributes:
        load: Gives the predictor. Pickled as a function and a path, never as a model.
        prepare: Called first.
        threads: To compute with; ``None``: torch's own number, shared among the workers.
        count: Of workers.
        device: For ``load``.
        precision: For ``load``.
    """

    load: Callable[..., Predictor]
    prepare: Callable[[], object]
    threads: int | None
    count: int
    device: str
    precision: str


class ImageAPI(litserve.LitAPI):
    """What LitServe hands to each worker process.

    Args:
        worker: How it loads its model.
        model: Name and version, told in every answer.
        max_batch_size: Requests taken together, and images in one forward pass.
        batch_timeout: Seconds to wait for more requests.
    """

    def __init__(self, worker: Worker, model: dict[str, str], *, max_batch_size: int, batch_timeout: float) -> None:
        # LitServe batches from two on; one image at a time is a matter of ``predict``.
        super().__init__(max_batch_size=max(2, max_batch_size), batch_timeout=batch_timeout, loop=PatientLoop())
        self.worker = worker
        self.model = model
        self.max_images = max_batch_size
        self.predictor: Predictor

    def setup(self, device: str) -> None:
        """Loads the model, and runs it once: what the first forward pass has to set up, no request waits for.

        Raises:
            SystemExit: The model cannot be loaded as the user wishes; they have been told.
        """
        set_log_level("WARNING")
        _live_and_die_with_the_server()
        self.worker.prepare()
        torch.set_num_threads(self.worker.threads or max(1, torch.get_num_threads() // self.worker.count))
        try:
            self.predictor = self.worker.load(device=self.worker.device, precision=self.worker.precision)
        except UserError as error:
            print(f"ft: {error}", file=sys.stderr, flush=True)
            raise SystemExit(USER_ERROR) from None
        spec = self.predictor.spec
        self.predictor.run(torch.zeros(1, spec.channels, spec.height, spec.width, dtype=torch.uint8))

    def decode_request(self, request: AskedFor) -> tuple[Tensor, int | None]:  # pyright: ignore
        """``(N, C, H, W)`` ``uint8`` and ``top_k`` of one request."""
        return torch.from_numpy(request.pixels), request.top_k

    def batch(self, inputs: list[tuple[Tensor, int | None]]) -> tuple[Tensor, list[Share]]:
        """``(M, C, H, W)`` of all requests, and whose they are."""
        return torch.cat([pixels for pixels, _ in inputs]), [(len(pixels), top_k) for pixels, top_k in inputs]

    def predict(self, x: tuple[Tensor, list[Share]]) -> tuple[Tensor, list[Share]]:  # pyright: ignore
        """``(M, K)`` probabilities or numbers."""
        pixels, shares = x
        logits = torch.cat([self.predictor.run(part) for part in pixels.split(self.max_images)])
        return self.predictor.reading.tell(logits), shares

    def unbatch(self, output: tuple[Tensor, list[Share]]) -> list[tuple[Tensor, int | None]]:
        """``(N, K)`` and ``top_k`` of each request."""
        told, shares = output
        parts = told.split([count for count, _ in shares])
        return [(part, top_k) for part, (_, top_k) in zip(parts, shares, strict=True)]

    def encode_response(self, output: tuple[Tensor, int | None]) -> dict[str, Any]:  # pyright: ignore
        """The answer, as plain values."""
        told, top_k = output
        return {"predictions": [describe(self.predictor.reading, row, top_k) for row in told], "model": self.model}


def _live_and_die_with_the_server() -> None:
    """Ctrl-C, which a terminal sends to all, is the server's business; and when that is gone, so is the worker."""
    server = parent_process()
    if server is None:
        return  # A thread of a test.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        server.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-server").start()
