"""Many parameters as one vector."""

from collections.abc import Sequence

import torch
from torch import Tensor


def open_parameters(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Those that have a gradient now: frozen ones have none."""
    return [parameter for parameter in parameters if parameter.grad is not None]


def flat_gradient(parameters: Sequence[Tensor]) -> Tensor:
    """All gradients in one vector of their total size."""
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])


def add_flat(parameters: Sequence[Tensor], direction: Tensor, length: float) -> None:
    """Moves the parameters, in place, ``length`` along a vector of their total size."""
    for parameter, part in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
        parameter.add_(part.view_as(parameter), alpha=float(length))
