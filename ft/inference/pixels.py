"""From ``uint8`` pixels to logits on a device: what every network of torch's shares, a run's or an exported one."""

from collections.abc import Callable

import torch
from torch import Tensor

from ft.data.transforms import normalize
from ft.errors import UserError
from ft.input_spec import InputSpec

DTYPES = {"fp32": None, "bf16": torch.bfloat16}


def torch_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one.

    Raises:
        UserError: torch does not know the device, or cannot reach it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} cannot be used: {str(error).splitlines()[0]}") from None


def on_pixels(
    network: Callable[[Tensor], Tensor], spec: InputSpec, device: torch.device, dtype: torch.dtype | None
) -> Callable[[Tensor], Tensor]:
    """A network of normalised images as one of pixels.

    Args:
        network: ``(B, C, H, W)`` normalised images to ``(B, K)``.
        spec: Gives mean and std.
        device: Where the network is.
        dtype: Of autocast; ``None`` for none.

    Returns:
        ``(B, C, H, W)`` ``uint8``, from anywhere, to ``(B, K)`` floats on the CPU.
    """

    @torch.inference_mode()
    def run(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            return network(normalize(pixels.to(device), spec)).float().cpu()

    return run
