"""Freezing: the only code that sets ``requires_grad``.

A frozen parameter has no gradient (AdamW with weight decay then leaves it bit-identical). A frozen stage is in eval
mode, because its BatchNorm would still update its statistics and its dropout would still drop; so is a normalisation
layer of an open stage whose statistics are frozen.

Called in ``on_train_start`` and ``on_train_epoch_start``, after DDP has wrapped the model: parameters that are frozen
before that are never synchronised, even once they are unfrozen.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

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
    stage_of = {name: stage.name for stage in stages for name in stage.modules}
    holds_open = _containers(phase.tensors)
    for name, module in model.named_modules():
        # A container of several stages (the backbone itself) may drop features too: timm's functional ``drop_rate``.
        frozen = stage_of[name] not in phase.stages if name in stage_of else name not in holds_open
        if frozen or _has_frozen_statistics(name, module, phase):
            module.training = False


@contextmanager
def pretrained_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, normalisation layers use their running statistics: one image alone has no variance to be divided by.

    torch refuses it outright where the feature map is a single pixel.
    """
    training = [module for module in model.modules() if isinstance(module, _NormBase) and module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _containers(tensors: Iterable[str]) -> set[str]:
    """Names of all modules that hold any of the tensors, however deep; the model itself is the empty name."""
    found = {""}
    for tensor in tensors:
        parent = tensor.rpartition(".")[0]
        while parent not in found:
            found.add(parent)
            parent = parent.rpartition(".")[0]
    return found


def _has_frozen_statistics(name: str, module: nn.Module, phase: Phase) -> bool:
    # torch's common base of BatchNorm and InstanceNorm; timm's own are subclasses.
    if not isinstance(module, _NormBase) or module.running_mean is None:
        return False
    return f"{name}.running_mean" not in phase.tensors
