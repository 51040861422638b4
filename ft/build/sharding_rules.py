"""What ``trainer=fsdp`` cannot go with: anything that needs a whole weight, or a pass that not all processes make."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from ft.build.data import Data
from ft.checkpoint.fsdp import Fsdp
from ft.errors import UserError
from ft.phases.recipe import Recipe
from ft.plugin import Plugin


def refuse_with_shards(
    config: dict[str, Any], trainer: Trainer, data: Data, plugins: Sequence[Plugin], recipe: Recipe
) -> None:
    """Refuses what needs more of a model than the part that a process holds; other trainers go with everything.

    Args:
        config: The whole config.
        trainer: Says how many processes there are.
        data: Its splits.
        plugins: Those that are of use.
        recipe: What trains when.

    Raises:
        UserError: Names the key to change.
    """
    if not isinstance(trainer.strategy, Fsdp):
        return
    smallest = min(len(split.targets) for split in data.splits.values())
    rules = [
        (recipe.computes_head, "a head that is computed from features", "recipe=full model.head_init=null"),
        (config["cache"]["activations"], "stored activations in place of passes through the model", "cache=off"),
        (config["optimizer"]["full_batch"], "an optimizer that sees all parameters as one", "optimizer=adamw"),
        (config["data"]["on_bad"] != "error", "batches that some process has no image of", "data.on_bad=error"),
        (config["data"]["batch_size"] < 2, "evaluation image by image", "data.batch_size=2 or more"),
        (
            smallest < trainer.world_size,
            f"a split of {smallest} images on {trainer.world_size} processes",
            f"trainer.devices={smallest} or less",
        ),
        *(
            (plugin.changes_evaluation or plugin.needs_whole_weights, f"plugins.{plugin.name}", "plugins without it")
            for plugin in plugins
        ),
    ]
    for refused, what, change in rules:
        if refused:
            raise UserError(
                f"trainer=fsdp leaves each process a part of every weight, so it does not go with {what}: set {change}."
            )
