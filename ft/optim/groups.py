"""Parameter groups: every parameter in exactly one, the frozen ones too, so that unfreezing changes no optimizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ft.errors import UserError

ParamGroup = dict[str, Any]


def default_groups(
    parameters: Mapping[str, nn.Parameter],
    stages: Sequence[tuple[str, Sequence[str]]],
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float,
    head_lr_scale: float,
) -> list[ParamGroup]:
    """Two groups a stage: with weight decay, and without it for biases and norms.

    Args:
        parameters: All of the model's, by name.
        stages: Name and parameter names of each, from the stem to the head.
        lr: Of the last stage of the backbone.
        weight_decay: Of matrices and kernels; vectors (biases, norm scales) and scalars get none.
        layer_decay: In ``(0, 1]``: each stage's rate is this much smaller than that of the stage above it
            (ULMFiT's discriminative rates, https://arxiv.org/abs/1801.06146, section 3.1).
        head_lr_scale: Above 0: the new head's rate is this many times ``lr``.

    Returns:
        Groups with ``params``, ``lr``, ``weight_decay``, and ``stage`` and ``lr_scale`` for plugins to read.
    """
    groups: list[ParamGroup] = []
    for depth, (stage, names) in enumerate(reversed(stages)):
        lr_scale = head_lr_scale if depth == 0 else layer_decay ** (depth - 1)
        for decays in (True, False):
            chosen = [parameters[name] for name in names if (parameters[name].ndim > 1) == decays]
            if chosen:
                groups.append(
                    {
                        "params": chosen,
                        "lr": lr * lr_scale,
                        "weight_decay": weight_decay if decays else 0.0,
                        "stage": stage,
                        "lr_scale": lr_scale,
                    }
                )
    return groups


def one_group(groups: Sequence[ParamGroup], *, name: str) -> list[ParamGroup]:
    """All parameters in one group, for optimizers that search along one direction.

    Weight decay stays with each parameter: see ``full_batch.l2_terms``.

    Raises:
        UserError: The groups have different learning rates.
    """
    if len({group["lr_scale"] for group in groups}) > 1:
        raise one_rate_only(name)
    return [{"params": [p for group in groups for p in group["params"]], "lr": groups[0]["lr"], "stage": "all"}]


def one_rate_only(name: str) -> UserError:
    """The error for different rates with an optimizer that searches along one direction."""
    return UserError(
        f"optimizer={name} moves all parameters along one direction, so it has one learning rate: "
        "set optimizer.layer_decay=1 and optimizer.head_lr_scale=1."
    )
