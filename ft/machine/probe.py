"""Times a few batches with the real model, and leaves it as it was.

What a step would change is not changed: gradients are computed without being stored, BatchNorm's statistics and the
modes are put back, random numbers are drawn aside.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ft.input_spec import InputSpec
from ft.machine.decide import Variant, median

ROUNDS = 3
LONG_ENOUGH = 0.6  # seconds of rounds, after which no further one is needed
HOPELESS = 1.5  # times the fastest so far: not measured further
KERNELS_SECONDS = 0.5  # that the first batch may take longer, because it prepares kernels

Run = Callable[[Tensor, str], None]


@contextmanager
def untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside, the model may run in any mode, on any device; afterwards it is as before, like threads and generators."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            model.to(home)
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for (name, _), (_, kept) in zip(list(model.named_buffers()), buffers, strict=True):
                    model.get_buffer(name).copy_(kept)
            torch.set_num_threads(threads)
            if device.type == "cuda":
                torch.cuda.empty_cache()


class Probe:
    """Runs a model on made-up images.

    Args:
        model: Images to logits, on ``device``, inside ``untouched``.
        spec: Shape of the images.
        device: Where.
        clock: Seconds; by default of this thread alone on a CPU with one thread, which others cannot slow down.
    """

    def __init__(
        self, model: nn.Module, spec: InputSpec, device: torch.device, clock: Callable[[], float] | None = None
    ) -> None:
        self.model = model
        self.spec = spec
        self.device = device
        self._clock = clock
        self._weights = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def images(self, batch: int, variant: Variant) -> Tensor:
        """``(batch, C, H, W)`` floats."""
        shape = (batch, self.spec.channels, self.spec.height, self.spec.width)
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return images.to(self.device).contiguous(memory_format=layout)

    def frozen(self, images: Tensor, precision: str) -> None:
        """A forward pass in eval mode."""
        with torch.no_grad(), self._autocast(precision):
            self.model(images)

    def train(self, images: Tensor, precision: str) -> None:
        """Forward and backward; no gradient is stored anywhere."""
        with torch.enable_grad(), self._autocast(precision):
            loss = self.model(images).float().square().mean()
        torch.autograd.grad(loss, self._weights, allow_unused=True)

    def now(self) -> float:
        """The clock, when everything before is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self._clock is not None:
            return self._clock()
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        return time.thread_time() if alone else time.perf_counter()

    def seconds(self, run: Run, images: Tensor, precision: str, limit: float) -> float | None:
        """Median seconds an image; ``None`` if it is given up.

        Args:
            run: ``frozen`` or ``train``.
            images: A batch.
            precision: ``fp32`` or ``bf16``.
            limit: Seconds an image beyond which it is given up.
        """
        taken: list[float] = []
        # The first, which prepares kernels for these shapes, does not count.
        for at in range(1 + ROUNDS):
            start = self.now()
            run(images, precision)
            each = (self.now() - start) / len(images)
            if each > HOPELESS * limit + (KERNELS_SECONDS / len(images) if at == 0 else 0.0):
                return None
            if at:
                taken.append(each)
            if sum(taken) * len(images) > LONG_ENOUGH:
                break
        return median(taken)

    def kept_bytes(self, images: Tensor, precision: str) -> float:
        """Bytes an image that autograd keeps for the backward pass, weights not counted."""
        known = {tensor.untyped_storage().data_ptr() for tensor in [*self.model.parameters(), *self.model.buffers()]}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self.train(images, precision)
        return sum(kept.values()) / len(images)

    def _autocast(self, precision: str) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")
