"""What training saw of an image: the run's own transforms and plugins, set to one of its epochs."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from ft.build.data import Data
from ft.build.plugins import build_plugins, useful_plugins
from ft.build.recipe import build_recipe, cache_options, recipe_view
from ft.build.run import build_module
from ft.build.trainer import lightning_quiet
from ft.data.dataset import ImageDataset, Unreadable
from ft.data.transforms import normalize
from ft.inference.material import Pictures
from ft.input_spec import InputSpec
from ft.phases.budget import Budget
from ft.phases.prefix_cache import PrefixCache
from ft.plugin import Plugin, overrides
from ft.tasks.task import Task


def pictures(config: dict[str, Any], task: Task, data: Data, model: Any) -> Pictures:
    """Images of every split, and training views as in the epoch in the middle of the run.

    Args:
        config: Of the run.
        task: With the classes of the run.
        data: Built from ``config``.
        model: Of the run.
    """
    plugins = useful_plugins(build_plugins(config["plugins"]), config)
    recipe = build_recipe(config, model, data, plugins)
    view = recipe_view(config, recipe, data, plugins, model.input_spec)
    changing = [each for each in plugins if overrides(each, "train_transform") or overrides(each, "train_batch")]
    if view is None and not changing:
        return Pictures(data.splits, None, "")
    epochs = config["trainer"]["max_epochs"]
    middle = max(epochs, 1) // 2
    loaders = data.loaders(model.input_spec, changing, seed=config["seed"], view=view)
    # No step is made: whoever looks at the run before its first finds what it looks for.
    cache = PrefixCache(
        cache_options(config, data, plugins, view, choice=None), seed=0, budget=Budget(None, started=0.0)
    )
    module = build_module(config, model, task, data, plugins, recipe, cache)
    module.phase = module.phase_at(middle)
    trainer = _trainer(epochs)
    for plugin in changing:
        plugin.prepare(module, trainer, loaders)
        plugin.begin_epoch(middle, module)
    train = data.splits["train"]
    dataset = ImageDataset(train.images, train.targets, loaders.train_transform, seed=config["seed"])

    def drawn(positions: Sequence[int], number: int) -> tuple[list[int], Tensor]:
        # Epochs and stored views have the same keys; the first of the stored ones is the plain view.
        found = {position: dataset[number + 1, position] for position in positions}
        items = {at: item for at, item in found.items() if not isinstance(item, Unreadable)}
        if not items:
            return [], torch.empty(0)
        images, targets = (torch.stack([item[part] for item in items.values()]) for part in (0, 1))  # pyright: ignore
        return list(items), changed(images, targets, changing, model.input_spec, seed=number)

    return Pictures(data.splits, drawn, f"epoch {middle + 1} of {epochs}")


def changed(images: Tensor, targets: Tensor, plugins: Sequence[Plugin], spec: InputSpec, *, seed: int) -> Tensor:
    """A training batch as the network gets it, back in pixels.

    Args:
        images: ``(B, C, H, W)`` ``uint8``.
        targets: ``(B,)`` or ``(B, K)``.
        plugins: In their order.
        spec: Of the model.
        seed: Of what the plugins draw.

    Returns:
        ``(B, C, H', W')`` ``uint8``.
    """
    blending = [plugin for plugin in plugins if overrides(plugin, "train_batch")]
    if not blending:
        return images
    generator = torch.Generator().manual_seed(seed)
    floats = normalize(images, spec)
    for plugin in blending:
        floats, targets = plugin.train_batch(floats, targets, generator)
    mean, std = (torch.tensor(each)[:, None, None] for each in (spec.mean, spec.std))
    return ((floats * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _trainer(epochs: int) -> Trainer:
    lightning_quiet()
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
