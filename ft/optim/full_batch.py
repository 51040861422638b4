"""The objective of a full-batch optimizer: the mean loss over the whole training set, plus its L2 term.

f(w) = sum over batches of (batch size / N) * loss(batch)  +  1/2 * weight_decay * |w|^2
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ft.optim.groups import ParamGroup

Pair = tuple[Tensor, Tensor]


def l2_terms(groups: Sequence[ParamGroup]) -> list[tuple[float, list[Tensor]]]:
    """Weight decay and the parameters it holds for, taken out of the groups: it is part of the objective here.

    L-BFGS and conjugate gradient know no weight decay, and a line search has to see what it costs.
    """
    return [(group["weight_decay"], list(group["params"])) for group in groups if group.get("weight_decay")]


def evaluate(
    batches: Iterable[Pair],
    num_images: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    l2: Sequence[tuple[float, list[Tensor]]],
) -> Tensor:
    """Computes the objective and leaves its gradients in ``.grad``, added to what is there.

    Args:
        batches: Inputs and targets; the same ones, in the same order, at every call.
        num_images: How many images all batches hold.
        loss: Mean loss of ``(inputs, targets)``.
        l2: From ``l2_terms``.

    Returns:
        The objective, a scalar without graph.
    """
    total = torch.zeros(())
    for inputs, targets in batches:
        part = loss(inputs, targets) * (len(targets) / num_images)
        part.backward()
        total = total.to(part.device) + part.detach()
    for decay, parameters in l2:
        opened = [parameter for parameter in parameters if parameter.requires_grad]
        if opened:
            term = 0.5 * decay * torch.stack([parameter.square().sum() for parameter in opened]).sum()
            term.backward()
            total = total + term.detach()
    return total
