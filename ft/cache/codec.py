"""How activations are kept: as they are, in half the bits, or in a quarter of them with a scale.

fp32   4 bytes a number, exact
bf16   2 bytes, 8 bits of precision: what a bf16 forward pass gives anyway
int8   1 byte, and one float for each channel of an image (the largest magnitude / 127)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}


def encode(values: Tensor, dtype: str) -> list[Tensor]:
    """``(B, ...)`` floats to what is stored: one tensor, for int8 its scales too.

    Args:
        values: Any floats. Whole numbers are stored as they are.
        dtype: One of ``DTYPES``.
    """
    if not values.is_floating_point():
        return [values]
    if dtype != "int8":
        return [values.to(DTYPES[dtype])]
    dims = tuple(range(2, values.ndim)) or (1,)
    scales = (values.float().abs().amax(dims, keepdim=True) / 127).clamp(min=1e-12)
    return [(values.float() / scales).round().to(torch.int8), scales]


def decode(stored: Sequence[Tensor]) -> Tensor:
    """The way back: floats for int8, else what is stored."""
    return stored[0] if len(stored) == 1 else stored[0].float() * stored[1]
