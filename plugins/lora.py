"""LoRA: beside each frozen linear or convolution layer of the backbone a product of two thin matrices trains.

    y = W x + (scale / rank) * B (A x)          W frozen, A random, B zero at first: it starts as the pretrained model

From Hu et al. 2022, https://arxiv.org/abs/2106.09685, section 4; the layers are peft's. Merged into W on export, the
model is a plain timm model again. Turn on with ``plugins=[lora]``; it needs the extra ``lora``.
"""

from typing import Any, ClassVar

from torch import nn

from ft import Plugin, UserError
from ft.errors import require, require_extra
from ft.model.stages import tensors_of

KEY = "plugins.lora"
KINDS: dict[str, type[nn.Module]] = {"linear": nn.Linear, "conv": nn.Conv2d}


def layers_to_adapt(backbone: nn.Module, kinds: list[str]) -> list[str]:
    """Names of the linear and convolution layers that get adapters.

    Grouped convolutions do not: peft's product would be as large as their own kernels.
    """
    wanted = tuple(KINDS[kind] for kind in kinds)
    return [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, wanted) and getattr(module, "groups", 1) == 1
    ]


class Lora(Plugin):
    """Puts adapters into the backbone and freezes the rest of it.

    Args:
        rank: Width of the product, at least 0; 0 is no adapter at all.
        scale: Above 0: LoRA's alpha; the product is multiplied by ``scale / rank``.
        drop_rate: In ``[0, 1)``: dropout before the adapter.
        layers: Which layers get one: ``linear``, ``conv``, or both.

    Raises:
        UserError: A value is out of range, the extra is missing, or the model has no such layer.
    """

    changes_evaluation = True
    needs_pretrained = True
    exclusive = frozenset({"chooses which tensors of a stage train"})
    neutral: ClassVar = {"rank": 0}

    def __init__(self, *, rank: int, scale: float, drop_rate: float, layers: list[str]) -> None:
        require(rank >= 0, f"{KEY}.rank", "must be at least 0", rank)
        require(scale > 0, f"{KEY}.scale", "must be above 0", scale)
        require(0 <= drop_rate < 1, f"{KEY}.drop_rate", "must be in [0, 1)", drop_rate)
        rule = f"must be a list out of {', '.join(KINDS)}"
        require(len(layers) > 0 and set(layers) <= set(KINDS), f"{KEY}.layers", rule, layers)
        require_extra("peft", "lora", "plugins=[lora]")
        self.rank = rank
        self.scale = scale
        self.drop_rate = drop_rate
        self.layers = layers

    def change_model(self, model: nn.Module) -> nn.Module:
        if self.rank == 0:
            return model
        from peft import LoraConfig, inject_adapter_in_model

        backbone = _backbone(model)
        names = layers_to_adapt(backbone, self.layers)
        if not names:
            raise UserError(f"{KEY}.layers={self.layers}: the backbone has no such layer: choose out of linear, conv.")
        config = LoraConfig(r=self.rank, lora_alpha=self.scale, lora_dropout=self.drop_rate, target_modules=names)  # pyright: ignore[reportArgumentType] - a float is fine
        inject_adapter_in_model(config, backbone)
        return model

    def export_model(self, model: nn.Module) -> nn.Module:
        if self.rank == 0:
            return model
        from peft.tuners.tuners_utils import BaseTunerLayer

        backbone = _backbone(model)
        for name, module in list(backbone.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge()
                parent, _, leaf = name.rpartition(".")
                setattr(backbone.get_submodule(parent), leaf, module.get_base_layer())
        return model

    def open_tensors(self, open: frozenset[str], model: nn.Module) -> frozenset[str]:
        if self.rank == 0:
            return open
        stages: Any = model.stages()  # pyright: ignore[reportCallIssue] - the model's protocol
        backbone = tensors_of(stages, [stage.name for stage in stages[:-1]])
        return frozenset(name for name in open if name not in backbone or ".lora_" in name)


def _backbone(model: nn.Module) -> nn.Module:
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise UserError("plugins=[lora] puts adapters into model.backbone, and this model has none: leave it out.")
    return backbone
