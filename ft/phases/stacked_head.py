"""Heads of one structure as one computation: one product a layer in place of one product a layer and head.

    inputs (B, F), the same for all heads     H heads, each (B, F) -> (B, K)     logits (H, B, K)
    first layer: one product with all H weights, side by side; layers after it: batched products

Every head keeps its own parameters and buffers; they are stacked in each step, and gradients find their way back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ft.model.head import ACTIVATIONS

# From the number of a dropout layer and the shape (B, F) to numbers in [0, 1).
Noise = Callable[[int, torch.Size], Tensor]
Stack = Callable[[Tensor, Noise], Tensor]
KNOWN = (nn.Linear, nn.Dropout, nn.BatchNorm1d, nn.LayerNorm, nn.Identity, *ACTIVATIONS.values())


def structure(head: nn.Module) -> str | None:
    """The same text for heads that can be stacked; ``None`` for a head whose layers are not known here."""
    if type(head) is not nn.Sequential or not all(parameter.requires_grad for parameter in head.parameters()):
        return None
    if any(type(layer) not in KNOWN or layer._forward_hooks or layer._forward_pre_hooks for layer in head):
        return None
    return repr(head)


def stack(heads: Sequence[nn.Module]) -> Stack:
    """All heads, in train mode, as one function of inputs ``(B, F)`` to logits ``(H, B, K)``.

    Args:
        heads: Of one ``structure``; of none where there is only one, whose dropout then draws for itself.
    """
    if structure(heads[0]) is None:
        (head,) = heads
        return lambda inputs, noise: head(inputs)[None]
    sequences: Any = heads
    layers: list[Stack] = []
    for number, same in enumerate(zip(*sequences, strict=True)):
        layers.append(_layer(list(same), number))

    def forward(inputs: Tensor, noise: Noise) -> Tensor:
        for layer in layers:
            inputs = layer(inputs, noise)
        return inputs if inputs.ndim == 3 else inputs.expand(len(heads), -1, -1)

    return forward


def _layer(same: list[Any], number: int) -> Stack:
    first = same[0]
    if isinstance(first, nn.Linear):
        return lambda inputs, noise: _linear(inputs, same)
    if isinstance(first, nn.BatchNorm1d):
        return lambda inputs, noise: _batch_norm(inputs, same)
    if isinstance(first, nn.LayerNorm):
        return lambda inputs, noise: _layer_norm(inputs, same)
    if isinstance(first, nn.Dropout):
        return lambda inputs, noise: drop(inputs, first.p, noise(number, inputs.shape[-2:])) if first.p else inputs
    return lambda inputs, noise: first(inputs)


def drop(inputs: Tensor, rate: float, drawn: Tensor) -> Tensor:
    """Drops features where ``drawn`` is below the rate, and scales up what is left.

    Two rates that are given the same numbers drop the same features, the higher one some more.

    Args:
        inputs: ``(..., B, F)``.
        rate: In ``[0, 1)``.
        drawn: ``(B, F)`` numbers in ``[0, 1)``.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, section 4; scaled while training.
    """
    return inputs * ((drawn >= rate) / (1 - rate))


def _linear(inputs: Tensor, same: Sequence[nn.Linear]) -> Tensor:
    weight = _stacked(same, "weight")
    bias = None if same[0].bias is None else _stacked(same, "bias")
    if inputs.ndim == 2:
        outputs = F.linear(inputs, weight.flatten(0, 1), None if bias is None else bias.flatten())
        return outputs.view(len(inputs), len(same), -1).transpose(0, 1)
    product = torch.bmm(inputs, weight.transpose(1, 2))
    return product if bias is None else product + bias[:, None]


def _batch_norm(inputs: Tensor, same: Sequence[nn.BatchNorm1d]) -> Tensor:
    """As H * F features of one layer; each head's running statistics follow its own inputs."""
    first, num_heads = same[0], len(same)
    wide = inputs.expand(num_heads, *inputs.shape[-2:]).transpose(0, 1).flatten(1)
    mean, var = (torch.cat([getattr(layer, name) for layer in same]) for name in ("running_mean", "running_var"))
    weight, bias = _stacked(same, "weight").flatten(), _stacked(same, "bias").flatten()
    outputs = F.batch_norm(wide, mean, var, weight, bias, True, first.momentum or 0.0, first.eps)
    for name, kept in (("running_mean", mean), ("running_var", var)):
        for layer, one in zip(same, kept.chunk(num_heads), strict=True):
            getattr(layer, name).copy_(one)
    for layer in same:
        layer.num_batches_tracked.add_(1)  # pyright: ignore[reportOptionalMemberAccess] -- make_head's track them
    return outputs.view(len(wide), num_heads, -1).transpose(0, 1)


def _layer_norm(inputs: Tensor, same: Sequence[nn.LayerNorm]) -> Tensor:
    normal = F.layer_norm(inputs, same[0].normalized_shape, None, None, same[0].eps)
    return normal * _stacked(same, "weight")[:, None] + _stacked(same, "bias")[:, None]


def _stacked(same: Sequence[nn.Module], name: str) -> Tensor:
    return torch.stack([getattr(layer, name) for layer in same])
