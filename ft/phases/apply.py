"""Freezing: the only code that sets ``requires_grad``.

A frozen stage has no gradients (AdamW with weight decay then leaves it bit-identical), and is in eval mode, because a
frozen BatchNorm would still update its statistics and a frozen dropout would still drop.

Called in ``on_train_start`` and ``on_train_epoch_start``, after DDP has wrapped the model: parameters that are frozen
before that are never synchronised, even once they are unfrozen.
"""

from collections.abc import Sequence

from torch import nn

from ft.model.stages import Stage


def apply(model: nn.Module, stages: Sequence[Stage], opened: frozenset[str]) -> None:
    """Opens the named stages and freezes the others."""
    parameters = dict(model.named_parameters())
    for stage in stages:
        for name in stage.parameters:
            parameters[name].requires_grad_(stage.name in opened)
            if stage.name not in opened:
                parameters[name].grad = None


def keep_frozen_in_eval(model: nn.Module, stages: Sequence[Stage], opened: frozenset[str]) -> None:
    """Puts the frozen stages' modules in eval mode; to be repeated whenever ``train()`` was called."""
    modules = dict(model.named_modules())
    for stage in stages:
        if stage.name not in opened:
            for name in stage.modules:
                modules[name].training = False
