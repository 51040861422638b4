"""Layer decay: each layer of the backbone trains at a smaller rate than the layer above it.

    head   last block   ...   first block   stem
    1      d            ...   d^n           d^(n+1)        times the learning rate

Layers are timm's own (every block of a ViT is one), finer than the stages that ``optimizer.layer_decay`` counts. From
Clark et al. 2020, https://arxiv.org/abs/2003.10555, appendix, and Bao et al. 2022, https://arxiv.org/abs/2106.08254.
timm writes the factor into its groups as ``lr_scale``, which only timm's own schedulers honour; here the rate itself is
multiplied. Turn on with ``plugins=[layer_decay]``.
"""

from typing import Any, ClassVar

from lightning.pytorch import Trainer
from torch import nn

from ft import FineTuner, Plugin, UserError
from ft.errors import require
from ft.model.stages import parameter_depths
from ft.optim.groups import ParamGroup


class LayerDecay(Plugin):
    """Divides the optimizer's groups by layer.

    Args:
        decay: In ``(0, 1]``: rate of a layer, relative to the one above it.
        min_scale: In ``[0, 1]``: no layer's rate is scaled by less.

    Raises:
        UserError: A value is out of range.
    """

    neutral: ClassVar = {"decay": 1.0}

    def __init__(self, *, decay: float, min_scale: float) -> None:
        require(0 < decay <= 1, "plugins.layer_decay.decay", "must be in (0, 1]", decay)
        require(0 <= min_scale <= 1, "plugins.layer_decay.min_scale", "must be in [0, 1]", min_scale)
        self.decay = decay
        self.min_scale = min_scale

    def prepare(self, module: FineTuner, trainer: Trainer, data: Any) -> None:
        if self.decay < 1 and module.optimizer_options.single_group:
            name = module.optimizer_options.name
            raise UserError(
                f"plugins=[layer_decay] gives each layer a rate, and optimizer={name} has one: leave layer_decay out."
            )

    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        if self.decay == 1:
            return groups
        depth_of = {id(model.get_parameter(name)): depth for name, depth in parameter_depths(model).items()}
        divided = []
        for group in groups:
            for depth in sorted({depth_of[id(parameter)] for parameter in group["params"]}):
                scale = max(self.decay**depth, self.min_scale)
                divided.append(
                    {
                        **group,
                        "params": [parameter for parameter in group["params"] if depth_of[id(parameter)] == depth],
                        "lr": group["lr"] * scale,
                        "lr_scale": group["lr_scale"] * scale,
                    }
                )
        return divided
