"""What a full-batch optimizer cannot go with: anything that makes its loss another function at every call."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from torch import nn

from ft.build.data import Data
from ft.errors import UserError
from ft.module import FineTuner
from ft.plugin import Plugin, overrides


def refuse_with_full_batch(module: FineTuner, trainer: Trainer, data: Data, plugins: Sequence[Plugin]) -> None:
    """Refuses gd, cg and lbfgs together with what is random or divided.

    Raises:
        UserError: Names the key to change.
    """
    name = module.optimizer_options.name
    rules = [
        (trainer.accumulate_grad_batches > 1, "trainer.accumulate_grad_batches=1", "gradient accumulation"),
        (trainer.gradient_clip_val is not None, "trainer.gradient_clip_val=null", "gradient clipping"),
        (trainer.world_size > 1, "trainer.devices=1", "several processes"),
        (data.options.balanced, "data.balanced=false", "balanced sampling"),
        *(
            (overrides(plugin, hook), "plugins=[] or without this one", f"{type(plugin).__name__}'s {what}")
            for plugin in plugins
            for hook, what in (("train_transform", "random augmentation"), ("train_batch", "batch mixing"))
        ),
        *((True, f"{key}=0", f"dropout ({where})") for where, key in _active_dropout(module)),
    ]
    for refused, change, what in rules:
        if refused:
            raise UserError(
                f"optimizer={name} needs the same loss at every evaluation, so it does not go with {what}: "
                f"set {change}."
            )


def _active_dropout(module: FineTuner) -> list[tuple[str, str]]:
    """The first module that drops something, and the key that turns it off."""
    for name, part in module.model.named_modules():
        rate = getattr(part, "p", None) if isinstance(part, nn.modules.dropout._DropoutNd) else None
        rate = getattr(part, "drop_prob", None) if rate is None else rate
        if rate:
            in_head = name.startswith("head.")
            key = "model.head.drop_rate" if in_head else "model.drop_path_rate"
            return [(name, key)]
    return []
