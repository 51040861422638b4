"""Surgical fine-tuning: only the stages that the new data asks to change train, and the head.

    stages=[stage1]          stem [stage1] stage2 stage3 stage4 [head]              named
    stages=auto, num=1       those with the highest |gradient| / |weight|           measured once, by Auto-RGN

Which stages those are depends on how the data differs: early ones for another look of the images, late ones for other
classes. From Lee et al. 2023, https://arxiv.org/abs/2210.11466, sections 3 and 5. A new head is random, and so are the
gradients that come through it: it trains alone for ``from_epoch`` epochs before ratios are measured. Turn on with
``plugins=[surgical]``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from ft import FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.data.transforms import normalize
from ft.errors import require
from ft.model.stages import require_stages

KEY = "plugins.surgical"


def relative_gradient_norm(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> float:
    """``|g| / |w|`` over several tensors together; 0 where the weights are all zero.

    Source: Lee et al. 2023, https://arxiv.org/abs/2210.11466, section 5.
    """
    length = torch.stack([value.float().square().sum() for value in weights.values()]).sum().sqrt()
    slope = torch.stack([gradients[name].float().square().sum() for name in weights]).sum().sqrt()
    return float(slope / length) if length > 0 else 0.0


def highest(ratios: Mapping[str, float], num: int) -> list[str]:
    """The ``num`` names with the highest ratios, the highest first."""
    return sorted(ratios, key=lambda name: -ratios[name])[:num]


class Surgical(Plugin):
    """Opens a few stages.

    Args:
        stages: Names of the backbone's stages that train beside the head, ``auto``, or ``all``.
        num: How many stages ``auto`` opens, at least 1.
        from_epoch: First epoch in which the stages are open, at least 0; before it the head trains alone.
        num_images: Training images that ratios are measured on, at least 1.

    Raises:
        UserError: A value is out of range, a stage is unknown, or ``from_epoch`` is never reached.
    """

    needs_pretrained = True
    needs_whole_weights = True
    neutral: ClassVar = {"stages": "all", "from_epoch": 0}

    def __init__(self, *, stages: str | list[str], num: int, from_epoch: int, num_images: int) -> None:
        require(num >= 1, f"{KEY}.num", "must be at least 1", num)
        require(from_epoch >= 0, f"{KEY}.from_epoch", "must be at least 0", from_epoch)
        require(num_images >= 1, f"{KEY}.num_images", "must be at least 1", num_images)
        self.stages = [stages] if isinstance(stages, str) else list(stages)
        self.num = num
        self.from_epoch = from_epoch
        self.num_images = num_images
        self.ratios: dict[str, float] = {}

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        names = module.stage_names
        require_stages(self.stages, names, f"{KEY}.stages", also=("auto", "all"))
        closed = [name for name in self.stages if name in names and name not in module.start_open]
        if closed:
            raise UserError(f"{KEY}.stages names {closed[0]}, but model.open keeps it frozen: set model.open=all.")
        rule = f"must be at most {len(names) - 1}, the stages of this backbone"
        require("auto" not in self.stages or self.num <= len(names) - 1, f"{KEY}.num", rule, self.num)
        epochs = trainer.max_epochs or -1
        if 0 < epochs <= self.from_epoch:
            raise UserError(f"{KEY}.from_epoch={self.from_epoch} is never reached: trainer.max_epochs={epochs}.")

    def open_stages(self, open: frozenset[str], epoch: int, stages: tuple[str, ...]) -> frozenset[str]:
        head = {stages[-1]}
        if epoch < self.from_epoch:
            return open & head
        if "all" in self.stages:
            return open
        known = {name: ratio for name, ratio in self.ratios.items() if name in open}
        chosen = highest(known, self.num) if "auto" in self.stages else self.stages
        return open & {*chosen, *head}

    def begin_epoch(self, epoch: int, module: FineTuner) -> None:
        if "auto" in self.stages and not self.ratios and epoch >= self.from_epoch:
            trainer: Any = module.trainer
            self.ratios = self._measure(module, trainer.datamodule)
            module.enter(module.phase_at(epoch))
            if trainer.is_global_zero:
                shown = ", ".join(f"{name} {self.ratios[name]:.3g}" for name in highest(self.ratios, len(self.ratios)))
                print(f"{self.name}: |gradient| / |weight| of {shown}")

    def _measure(self, module: FineTuner, data: DataModule) -> dict[str, float]:
        """The ratio of every stage of the backbone, from gradients that no optimizer and no other process sees."""
        model = module.model
        stages = {stage.name: stage.parameters for stage in model.stages()[:-1] if stage.parameters}
        copies = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
        totals = {name: torch.zeros_like(value) for name, value in copies.items()}
        module.eval()
        for batch in data.sample_loader("train", self.num_images):
            images = normalize(batch.images.to(module.device), model.input_spec)
            logits = torch.func.functional_call(model, copies, (images,))
            loss = module.task.loss(logits, batch.targets.to(module.device))
            found = torch.autograd.grad(loss, list(copies.values()), allow_unused=True)
            for name, gradient in zip(copies, found, strict=True):
                if gradient is not None:
                    totals[name] += gradient * len(batch.index)
        module.train()
        count = min(self.num_images, len(data.splits["train"].targets))
        return {
            stage: relative_gradient_norm(
                {name: copies[name].detach() for name in names}, {name: totals[name] / count for name in names}
            )
            for stage, names in stages.items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {"ratios": self.ratios}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.ratios = dict(state_dict["ratios"])
