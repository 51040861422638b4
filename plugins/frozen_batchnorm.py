"""Frozen BatchNorm: scales, shifts and running statistics keep their pretrained values while everything else trains.

Small batches give noisy statistics, and a few hundred images give a poor estimate of what a million gave. As detection
models are fine-tuned: He et al. 2016, https://arxiv.org/abs/1512.03385, appendix A. Turn on with
``plugins=[frozen_batchnorm]``.
"""

from typing import Any, ClassVar

from lightning.pytorch import Trainer
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ft import FineTuner, Plugin
from ft.model.stages import require_stages, tensors_of

KEY = "plugins.frozen_batchnorm.stages"


def batchnorm_tensors(model: nn.Module) -> frozenset[str]:
    """Names of all parameters and buffers of layers that keep running statistics."""
    return frozenset(
        f"{name}.{tensor}"
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None
        for tensor in module.state_dict()
    )


class FrozenBatchnorm(Plugin):
    """Freezes BatchNorm layers.

    Args:
        stages: Where: ``all``, or names of stages.

    Raises:
        UserError: A stage that the model lacks.
    """

    needs_pretrained = True
    neutral: ClassVar = {"stages": []}

    def __init__(self, *, stages: str | list[str]) -> None:
        self.stages = [stages] if isinstance(stages, str) else list(stages)
        self.frozen: frozenset[str] = frozenset()

    def prepare(self, module: FineTuner, trainer: Trainer, data: Any) -> None:
        require_stages(self.stages, module.stage_names, KEY, also=("all",))
        # A new head's own BatchNorm has learned nothing that would be worth keeping.
        backbone = module.stage_names[:-1]
        chosen = backbone if "all" in self.stages else set(self.stages) & set(backbone)
        self.frozen = batchnorm_tensors(module.model) & tensors_of(module.model.stages(), chosen)
        if self.stages and not self.frozen:
            print(f"{self.name}: no BatchNorm there; the plugin changes nothing")

    def open_tensors(self, open: frozenset[str], model: nn.Module) -> frozenset[str]:
        return open - self.frozen
