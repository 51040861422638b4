"""What plugins and the recipe do to a training batch: to its images, or to what a frozen part made of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ft.data.batch import Batch
from ft.data.blend import blend_all
from ft.plugin import Plugin
from ft.tasks.task import Task


def changed(batch: Batch, plugins: Sequence[Plugin], *, mixup: float, task: Task, generator: torch.Generator) -> Batch:
    """The batch to train on.

    Args:
        batch: On the device; not empty.
        plugins: Folded in this order.
        mixup: The recipe's own, unless a plugin has changed the targets; 0 for none.
        task: Says what soft targets are, and whether it allows them.
        generator: Of this batch.
    """
    images, targets = batch.images, batch.targets
    for plugin in plugins:
        if batch.boundary is None:
            images, targets = plugin.train_batch(images, targets, generator)
        elif plugin.stored_as == "activations":
            images, targets = on_activations(plugin, images, targets, generator)
    if mixup and targets is batch.targets and task.allows_soft_targets:
        images, targets = blend_all(images, task.soft_targets(targets), alpha=mixup, generator=generator)
    return batch._replace(images=images, targets=targets)


def on_activations(plugin: Plugin, values: Any, targets: Tensor, generator: torch.Generator) -> tuple[Any, Tensor]:
    """A plugin's ``train_batch`` on what crossed a boundary: the same draw for each of several tensors."""
    if isinstance(values, Tensor):
        return plugin.train_batch(values, targets, generator)
    state, replaced, new_targets = generator.get_state(), [], targets
    for each in values:
        generator.set_state(state)
        value, new_targets = plugin.train_batch(each, targets, generator)
        replaced.append(value)
    return tuple(replaced), new_targets
