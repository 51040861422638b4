"""The ordered blocks of a model: what can be frozen, and where a model can be cut.

    stem  stage1  stage2  stage3  stage4  head

timm's ``group_matcher(coarse=True)`` defines them by parameter names; buffers, and modules that have neither
(activations, dropout), follow the parameters they stand with.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from timm.models import group_parameters
from torch import nn

from ft.errors import UserError, did_you_mean

HEAD = "head"


@dataclass(frozen=True)
class Stage:
    """One stage; all names are those of the whole model.

    Attributes:
        name: ``stem``, ``stage1`` ..., ``head``; ``body`` where timm cannot say.
        parameters: Its parameters.
        buffers: Its buffers.
        modules: The modules that are in it whole, so that their train or eval mode is the stage's. A container that
            reaches over several stages is in none.
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    modules: tuple[str, ...]


def backbone_stages(backbone: Any, prefix: str) -> list[Stage]:
    """Stages of a timm backbone in the order data flows; the one stage ``body`` where timm has no matcher for it.

    Args:
        backbone: A timm model without classifier.
        prefix: Name of the backbone in the whole model, with its dot: ``backbone.``.
    """
    names = [name for name, _ in backbone.named_parameters()]
    if hasattr(backbone, "group_matcher"):
        group_of = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
    else:
        group_of = dict.fromkeys(names, 0)
    module_group = _module_groups(backbone, group_of)
    buffers = [name for name, _ in backbone.named_buffers()]
    groups = sorted(set(group_of.values()))
    titles = ["body"] if len(groups) == 1 else ["stem", *(f"stage{at}" for at in range(1, len(groups)))]
    return [
        Stage(
            title,
            tuple(prefix + name for name in names if group_of[name] == group),
            tuple(
                prefix + name
                for name in buffers
                # A buffer of the whole backbone (a rotary embedding's table) is needed from the first stage on.
                if module_group.get(name.rpartition(".")[0], groups[0]) == group
            ),
            tuple(prefix + name for name, of in module_group.items() if of == group),
        )
        for title, group in zip(titles, groups, strict=True)
    ]


def head_stage(head: nn.Module, prefix: str) -> Stage:
    """The new head, always last.

    Args:
        head: The module.
        prefix: Its name in the whole model, with its dot.
    """
    return Stage(
        HEAD,
        tuple(prefix + name for name, _ in head.named_parameters()),
        tuple(prefix + name for name, _ in head.named_buffers()),
        tuple((prefix + name).rstrip(".") for name, _ in head.named_modules()),
    )


def _module_groups(backbone: nn.Module, group_of: dict[str, int]) -> dict[str, int]:
    """The group of every module that belongs to exactly one."""
    # In one walk over the parameters: this is asked a dozen times before training starts.
    groups_below: defaultdict[str, set[int]] = defaultdict(set)
    for parameter, group in group_of.items():
        above = parameter
        while above:
            above = above.rpartition(".")[0]
            groups_below[above].add(group)
    found: dict[str, int] = {}
    # Modules without parameters stand with the module around them, or, at the top, with the one registered before:
    # a ResNet's ``maxpool`` and a ViT's ``pos_drop`` come after their stem.
    latest = min(group_of.values())
    for name, _ in backbone.named_modules():
        below = groups_below.get(name, set())
        if len(below) == 1 and name:
            (latest,) = below
            found[name] = latest
        elif not below:
            found[name] = found.get(name.rpartition(".")[0], latest)
    return found


def tensors_of(stages: Sequence[Stage], names: Collection[str]) -> frozenset[str]:
    """Names of all parameters and buffers of the named stages."""
    return frozenset(
        tensor for stage in stages if stage.name in names for tensor in (*stage.parameters, *stage.buffers)
    )


def require_stages(names: Iterable[str], stages: Sequence[str], key: str, *, also: Sequence[str] = ()) -> None:
    """Refuses a stage that the model lacks.

    Args:
        names: As given.
        stages: All stages of the model.
        key: The config key they were given for.
        also: Words that are allowed in the place of names.

    Raises:
        UserError: Lists the stages, and the nearest.
    """
    for name in names:
        if name not in (*stages, *also):
            words = f"; {' and '.join(also)} can be said too" if also else ""
            raise UserError(
                f"{key} names {name!r}; the model's stages are {', '.join(stages)}{words}."
                f"{did_you_mean(str(name), [*stages, *also])}"
            )


def parameter_depths(model: Any) -> dict[str, int]:
    """How far below the head each parameter is: 0 in the head, 1 in the backbone's last layer, and so on.

    Args:
        model: Follows the model's protocol. Where its ``backbone`` is timm's, layers are timm's finest; elsewhere each
            stage is one.
    """
    stages = model.stages()
    depths = {name: depth for depth, stage in enumerate(reversed(stages)) for name in stage.parameters}
    backbone = getattr(model, "backbone", None)
    if backbone is not None and hasattr(backbone, "group_matcher"):
        layer_of = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
        layers = sorted(set(layer_of.values()))
        for name, layer in layer_of.items():
            depths[f"backbone.{name}"] = len(layers) - layers.index(layer)
    return depths
