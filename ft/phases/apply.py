"""Freezing: the only code that sets ``requires_grad``.

A frozen parameter has no gradient (AdamW with weight decay then leaves it bit-identical). A frozen stage is in eval
mode, because its BatchNorm would still update its statistics and its dropout would still drop; so is a normalisation
layer of an open stage whose statistics are frozen.

Called in ``on_train_start`` and ``on_train_epoch_start``, after DDP has wrapped the model: parameters that are frozen
before that are never synchronised, even once they are unfrozen.
"""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ft.model.stages import Stage
from ft.phases.plan import Phase


def apply(model: nn.Module, phase: Phase) -> None:
    """Opens what the phase names and freezes everything else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in phase.tensors)
        if name not in phase.tensors:
            parameter.grad = None


def keep_frozen_in_eval(model: nn.Module, stages: Sequence[Stage], phase: Phase) -> None:
    """Puts what is frozen in eval mode; to be repeated whenever ``train()`` was called."""
    modules = dict(model.named_modules())
    for stage in stages:
        for name in stage.modules:
            if stage.name not in phase.stages or _has_frozen_statistics(name, modules[name], phase):
                modules[name].training = False


def _has_frozen_statistics(name: str, module: nn.Module, phase: Phase) -> bool:
    # torch's common base of BatchNorm and InstanceNorm; timm's own are subclasses.
    if not isinstance(module, _NormBase) or module.running_mean is None:
        return False
    return f"{name}.running_mean" not in phase.tensors
