"""What ``trainer=fsdp`` cannot go with: anything that needs a whole weight, or a pass that not all processes make."""

from collections.abc import Sequence
from typing import Any

from ft.errors import UserError
from ft.phases.recipe import Recipe
from ft.plugin import Plugin


def refuse_with_shards(config: dict[str, Any], plugins: Sequence[Plugin], recipe: Recipe) -> None:
    """Refuses what needs more of a model than the part that a process holds.

    Args:
        config: The whole config.
        plugins: Those that are of use.
        recipe: What trains when.

    Raises:
        UserError: Names the key to change.
    """
    if config["trainer"]["strategy"] != "fsdp":
        return
    rules = [
        (recipe.computes_head, "a head that is computed from features", "recipe=full model.head_init=null"),
        (
            config["cache"]["activations"],
            "activations that are stored in place of a pass through the model",
            "cache=off",
        ),
        (config["optimizer"]["full_batch"], "an optimizer that sees all parameters as one", "optimizer=adamw"),
        (config["data"]["on_bad"] == "skip", "batches that no process has a part of", "data.on_bad=error"),
        (config["data"]["batch_size"] < 2, "evaluation image by image", "data.batch_size=2 or more"),
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
