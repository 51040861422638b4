"""What trains during an epoch: the start value, folded through the plugins.

stem  stage1  stage2  stage3 | stage4  head
......... prefix ........... | ..suffix ...       the boundary is the first open stage: derived, never declared
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ft.errors import UserError
from ft.model.stages import Stage, require_stages, tensors_of
from ft.plugin import Plugin

HEAD = "head"


@dataclass(frozen=True)
class Phase:
    """What trains.

    Attributes:
        stages: Names of the open stages: those with at least one open tensor.
        tensors: Names of the parameters and buffers that change.
    """

    stages: frozenset[str]
    tensors: frozenset[str]


def start_value(opened: str | Sequence[str], stages: Sequence[str], *, key: str = "model.open") -> frozenset[str]:
    """What ``model.open`` means for a model's stages.

    Args:
        opened: ``all``, ``head``, or names of stages.
        stages: All stages of the model.
        key: For the message.

    Raises:
        UserError: A stage that the model lacks, or none at all.
    """
    if opened == "all":
        return frozenset(stages)
    names = [opened] if isinstance(opened, str) else list(opened)
    require_stages(names, stages, key, also=("all",))
    if not names:
        raise UserError(f"{key} is empty: at least one stage has to train, such as [head].")
    return frozenset(names)


def phase(
    start: frozenset[str], plugins: Sequence[Plugin], epoch: int, stages: Sequence[Stage], model: nn.Module
) -> Phase:
    """What trains during ``epoch``, after every plugin has had its say.

    Raises:
        UserError: A plugin opens a stage that the model lacks, or nothing is left to train.
    """
    opened = open_stages(start, plugins, epoch, [stage.name for stage in stages])
    tensors = tensors_of(stages, opened)
    for plugin in plugins:
        tensors = plugin.open_tensors(tensors, model) & tensors
    trained = frozenset(stage.name for stage in stages if tensors.intersection(stage.parameters))
    if not trained:
        raise UserError(f"nothing is left to train in epoch {epoch}: plugins={[plugin.name for plugin in plugins]}.")
    return Phase(trained, tensors)


def without_statistics(phase: Phase, model: nn.Module) -> Phase:
    """The same with the running statistics of normalisation layers frozen: such a layer is then in eval mode."""
    closed = {
        f"{name}.{buffer}"
        for name, module in model.named_modules()
        if isinstance(module, _NormBase)
        for buffer, _ in module.named_buffers(recurse=False)
    }
    return Phase(phase.stages, phase.tensors - closed)


def open_stages(start: frozenset[str], plugins: Sequence[Plugin], epoch: int, stages: Sequence[str]) -> frozenset[str]:
    """Which stages train during ``epoch``.

    Raises:
        UserError: A plugin opens a stage that the model lacks, or closes all of them.
    """
    opened = start
    for plugin in plugins:
        opened = plugin.open_stages(opened, epoch, tuple(stages))
        if unknown := sorted(opened - set(stages)):
            raise UserError(
                f"{type(plugin).__name__} opens {unknown[0]!r}; the model's stages are {', '.join(stages)}."
            )
    if not opened:
        raise UserError(
            f"no stage is open in epoch {epoch}: the plugins {[type(p).__name__ for p in plugins]} close all."
        )
    return opened


def boundary(opened: frozenset[str], stages: Sequence[str]) -> str:
    """The first open stage: everything before it is computed the same way in every epoch."""
    return next(stage for stage in stages if stage in opened)
