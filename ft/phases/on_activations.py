"""What a plugin does to batches of images, done to what a frozen part of the model has made of them."""

from typing import Any

import torch
from torch import Tensor

from ft.plugin import Plugin


def on_activations(plugin: Plugin, values: Any, targets: Tensor, generator: torch.Generator) -> tuple[Any, Tensor]:
    """A plugin's ``train_batch`` on what crossed a boundary: the same draw for each of several tensors."""
    if isinstance(values, Tensor):
        return plugin.train_batch(values, targets, generator)
    state, changed, new_targets = generator.get_state(), [], targets
    for each in values:
        generator.set_state(state)
        value, new_targets = plugin.train_batch(each, targets, generator)
        changed.append(value)
    return tuple(changed), new_targets
