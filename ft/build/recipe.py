"""From the ``recipe`` config to what trains when, and to what may be stored of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ft.build.data import Data
from ft.build.plugins import has_random_weights
from ft.data.fingerprint import fingerprint
from ft.data.random_crop import RandomCrop
from ft.data.transforms import EvaluationTransform, Transform
from ft.errors import one_of, require
from ft.input_spec import InputSpec
from ft.machine.choice import Choice
from ft.phases.cache_options import CacheOptions
from ft.phases.head_init import CHOICES
from ft.phases.plan import start_value
from ft.phases.recipe import Recipe, computed_head, deepening, full, trained_head, within
from ft.plugin import Plugin, overrides

NAMES = ("auto", "full", "linear", "head")


def build_recipe(config: dict[str, Any], model: Any, data: Data, plugins: Sequence[Plugin]) -> Recipe:
    """What trains when; the number of epochs and how the head starts are written into the config.

    Args:
        config: The whole config; ``trainer.max_epochs`` and ``model.head_init`` are completed.
        model: Says which stages there are.
        data: Says how many images there are.
        plugins: One that says which stages are open has the word about depth.

    Raises:
        UserError: ``model.open`` names no stage of the model, or a name is none.
    """
    settings, trainer = config["recipe"], config["trainer"]
    one_of(settings["name"], NAMES, "recipe")
    stages = [stage.name for stage in model.stages()]
    opened = start_value(config["model"]["open"], stages)
    head, epochs = config["model"]["head_init"], trainer["max_epochs"]
    whole = epochs is None or (isinstance(epochs, int) and not isinstance(epochs, bool))
    require(whole, "trainer.max_epochs", "must be a whole number", epochs)
    if head is not None:
        one_of(head, CHOICES, "model.head_init")
    name = settings["name"]
    if name == "auto":
        name = data.suggested["recipe"] or name
    if has_random_weights(config):
        # A frozen backbone that has learned nothing is of no use: every stage is open, and the run says so.
        name, opened = "full", frozenset(stages)
    elif config["optimizer"]["full_batch"] and name == "auto":
        name = "full"  # it walks the whole set, and keeps features of its own
    if name == "full":
        recipe = full(opened, epochs=settings["epochs"], head=head or "random", views=settings["views"])
    elif name == "linear":
        recipe = computed_head()
    elif name == "head":
        one_of(settings["head_init"], CHOICES, "recipe.head_init")
        recipe = trained_head(head or settings["head_init"], settings["mixup"])
    else:
        if any(overrides(plugin, "open_stages") for plugin in plugins):
            settings = {**settings, "phases": [{**entry, "depth": 1.0} for entry in settings["phases"]]}
        num_images = len(data.splits["train"].targets)
        recipe = deepening(
            settings, stages, num_images=num_images, batch_size=data.options.batch_size, open=opened, head=head
        )
        if epochs is not None and epochs > 0:
            recipe = within(recipe, epochs)
    if epochs is None:
        trainer["max_epochs"] = recipe.epochs
    return replace(recipe, head_training=settings["head_training"])


def whole_model_steps(recipe: Recipe, data: Data) -> int:
    """Steps in which every stage trains, before the plugins have their say."""
    per_epoch = len(data.splits["train"].targets) // data.options.batch_size
    return recipe.epochs * per_epoch if recipe.name == "full" else 0


def cache_options(
    config: dict[str, Any], data: Data, plugins: Sequence[Plugin], view: Transform | None, *, choice: Choice | None
) -> CacheOptions:
    """What may be stored, and what it depends on.

    Args:
        config: The whole config.
        data: Its images are told apart by their fingerprints.
        plugins: What they do to images is part of a view.
        view: The transform of views other than the first, before the plugins.
        choice: How this machine computes best, where it was measured.
    """
    changing = [plugin.name for plugin in plugins if _changes_views(plugin)]
    model = {key: value for key, value in config["model"].items() if key not in ("open", "head", "head_init", "found")}
    return CacheOptions(
        **{key: config["cache"][key] for key in ("activations", "dtype", "memory", "disk")},
        identity=model,
        images={name: fingerprint(split.images) for name, split in data.splits.items()},
        drawn_with={"plugins": {name: config["plugins"][name] for name in changing}, "transform": repr(view)},
        choice=choice,
    )


def recipe_view(config: dict[str, Any], recipe: Recipe, data: Data, plugins: Sequence[Plugin], spec: InputSpec) -> Any:
    """The transform of training images where the recipe augments and no plugin does; ``None`` elsewhere."""
    if recipe.name != "auto" or any(map(_changes_views, plugins)) or all(phase.views == 1 for phase in recipe.phases):
        return None
    settings = config["recipe"]
    flip = settings["flip"] if data.suggested["flip"] else 0.0
    return RandomCrop(EvaluationTransform(spec), tuple(settings["crop"]), flip)


def _changes_views(plugin: Plugin) -> bool:
    """Whether stored activations depend on it; one that mixes them afterwards finds those of runs without it."""
    return overrides(plugin, "train_transform") or plugin.stored_as == "views"
