"""What a loaded export consists of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Network:
    """One exported file in its own runtime.

    Attributes:
        run: ``(B, C, H, W)`` ``uint8`` to ``(B, K)`` floats on the CPU.
        embed: The same to ``(B, F)`` pooled features; ``None`` where the format has none.
        model: Normalised images to ``(B, K)``, in eval mode; ``None`` where it is not torch's.
    """

    run: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor] | None = None
    model: Any = None
