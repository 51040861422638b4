"""The one network that is traced into a graph: pixels or normalised images in, outputs out."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ft.deploy.folder import UINT8
from ft.deploy.outputs import Outputs
from ft.errors import UserError
from ft.input_spec import InputSpec


class Graph(nn.Module):
    """A trained model with what comes before and after it.

    Args:
        model: Normalised images to logits; copied, in eval mode.
        spec: Gives mean and std.
        outputs: What to make of the logits.
        preprocess: ``normalized``: takes ``(B, C, H, W)`` floats; ``uint8``: takes the crop and normalises it itself.
    """

    mean: Tensor
    std: Tensor
    factor: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, spec: InputSpec, outputs: Outputs, *, preprocess: str) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.takes_pixels = preprocess == UINT8
        self.outputs_are_logits = outputs.are_logits
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1))
        self.register_buffer("factor", outputs.factor.float())
        self.register_buffer("shift", outputs.shift.float())

    # The argument's name is the input's name in the exported file.
    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, K)``."""
        images = (input.float() / 255 - self.mean) / self.std if self.takes_pixels else input
        logits = self.model(images)
        return logits if self.outputs_are_logits else logits * self.factor + self.shift


def example(spec: InputSpec, preprocess: str) -> Tensor:
    """Two images to trace with: a batch of one would be taken for a constant."""
    shape = (2, spec.channels, spec.height, spec.width)
    generator = torch.Generator().manual_seed(0)
    if preprocess == UINT8:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, generator=generator)


@contextmanager
def tracing(format: str) -> Iterator[None]:
    """Silences the tracer, and tells in one line what it cannot trace.

    Raises:
        UserError: Instead of the tracer's own pages.
    """
    try:
        # Of torch about torch, such as names it is about to give up; nothing in them is for the user.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    # torch.export and its ONNX translation raise their own and Python's, from deep inside.
    except (
        RuntimeError,
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        AssertionError,
        NotImplementedError,
    ) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(
            f"format={format}: torch cannot trace this model ({type(error).__name__}: {(lines or [''])[0][:200]}).\n"
            "Choose another format; for a timm model with a linear head that is format=timm."
        ) from error
