"""The run of a head that is trained already: ordinary in everything but that nothing of it is built twice."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ft.build.recipe import build_recipe
from ft.build.run import Run, begin, build_module
from ft.build.trainer import build_trainer
from ft.checkpoint.interrupt import StopBetweenBatches
from ft.data.loader import BatchSource
from ft.instantiate import check_targets
from ft.jobs.shared_features import FeatureLoaders
from ft.model.timm_model import TimmModel
from ft.phases.budget import Budget, EndInTime
from ft.phases.prefix_cache import PrefixCache
from ft.phases.worth import takes_place
from ft.run_folder import RunFolder
from ft.tasks.task import Task

# What is found out while a run is built, and is the same for all heads.
FOUND = {"trainer": ("max_epochs", "tuned"), "model": ("found", "kwargs", "input", "img_size")}


def head_run(
    shared: Run,
    config: Mapping[str, Any],
    head: nn.Module,
    task: Task,
    place: RunFolder,
    evaluated: Mapping[str, BatchSource],
) -> Run:
    """Builds what is left of a run, and makes its folder.

    Args:
        shared: A run of the same model and data.
        config: Of this one, composed.
        head: Trained.
        task: With this run's loss.
        place: Of the run; not there yet.
        evaluated: Features of the splits that are evaluated at the end.
    """
    config = completed(config, shared.config)
    check_targets(config)
    given: Any = shared.module.model
    model = TimmModel(given.backbone, given.pool, head, given.input_spec, given.weights).train()
    recipe = replace(build_recipe(config, model, shared.data, []), head_ready=True)
    budget = Budget(None, started=time.monotonic())
    cache = PrefixCache(shared.module.cache.options, seed=config["seed"], budget=budget)
    cache.store = shared.module.cache.store
    module = build_module(config, model, task, shared.data, [], recipe, cache)
    interrupt = StopBetweenBatches()
    trainer, metrics, checkpoints = build_trainer(config, place, task, [], [interrupt, EndInTime(budget)])
    checkpoints.takes_place = partial(takes_place, recipe, task)
    loaders = FeatureLoaders(shared.loaders, evaluated, seed=config["seed"])
    begin(place, config, task)
    return Run(config, place, False, shared.data, loaders, module, trainer, metrics, checkpoints, interrupt)


def completed(config: Mapping[str, Any], built: Mapping[str, Any]) -> dict[str, Any]:
    """A composed config with what building a run of the same model and data has found out.

    Args:
        config: Composed and resolved.
        built: Of the run that was built.
    """
    whole = {key: value for key, value in config.items() if key != "sweep"}
    for group, keys in FOUND.items():
        found = {key: built[group][key] for key in keys if key in built[group]}
        whole[group] = {**config[group], **found}
    return {**whole, "choices": dict(built["choices"])}
