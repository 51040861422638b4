"""From a composed config to a run: reads the keys, checks what only the whole config can tell, calls plain Python."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from ft.build import same_data
from ft.build.autoresume import Claim
from ft.build.data import Data, build_data
from ft.build.full_batch_rules import refuse_with_full_batch
from ft.build.micro_batch import pieces
from ft.build.plugins import build_plugins, useful_plugins
from ft.build.recipe import build_recipe, cache_options, recipe_view, whole_model_steps
from ft.build.resume import config_at, resumed_config
from ft.build.sharding_rules import refuse_with_shards
from ft.build.trainer import build_trainer, lightning_quiet, process_rank
from ft.build.tuning import tuned
from ft.checkpoint.interrupt import StopBetweenBatches
from ft.checkpoint.keep import KeepCheckpoints
from ft.data.module import DataModule
from ft.data.randomness import seed_global_generators
from ft.duration import seconds_of
from ft.errors import UserError, one_of, require
from ft.faults.processes import end_with_parent
from ft.instantiate import check_targets, instantiate, instantiate_later, locate
from ft.module import FineTuner
from ft.optim.options import OptimizerOptions, ScheduleOptions
from ft.phases.budget import Budget, EndInTime
from ft.phases.prefix_cache import PrefixCache
from ft.phases.recipe import Recipe
from ft.phases.worth import takes_place
from ft.plugin import Plugin, fold
from ft.quarantine import list_bad_images
from ft.run_folder import RunFolder, write_whole
from ft.show.metrics_csv import MetricsCsv
from ft.tasks.task import Task

# Keys of the optimizer's config that are ours; the others are its constructor's.
GROUP_KEYS = ("lr", "weight_decay", "layer_decay", "head_lr_scale", "full_batch", "single_group")

# Keys of the model's config that are ours; the others are its function's.
MODEL_KEYS = ("num_classes", "open", "head_init", "found")


@dataclass
class Run:
    """Everything a training run needs."""

    config: dict[str, Any]
    folder: RunFolder
    resumed: bool
    data: Data
    loaders: DataModule
    module: FineTuner
    trainer: Trainer
    metrics: MetricsCsv
    checkpoints: KeepCheckpoints
    interrupt: StopBetweenBatches


def build(
    composed: DictConfig,
    *,
    started: float | None = None,
    place: RunFolder | None = None,
    callbacks: Sequence[Callback] = (),
    claim: Claim | None = None,
) -> Run:
    """Builds a training run; the run folder is the last thing that is made.

    Args:
        composed: The whole config.
        started: When the user's wait began, as ``time.monotonic()`` tells it; now, if nothing is said.
        place: Where the run is to be, in place of a new name below ``runs_dir``; a run that was begun there goes on.
        callbacks: Of Lightning, that listen besides the plugins.
        claim: Says where an unfinished run of the same command is, and is told where this one begins.

    Raises:
        UserError: Anything the user can mend.
    """
    started = time.monotonic() if started is None else started
    lightning_quiet()
    end_with_parent()
    place = claim.place if claim is not None and place is None else place
    folder, config = resumed_config(composed) if place is None else config_at(place, composed)
    if isinstance(config.get("experiment"), dict):
        name = config["choices"].get("experiment")
        raise UserError(f"conf/experiment/{name}.yaml needs '# @package _global_' as its first line.")
    if claim is not None and claim.tuned:
        config["trainer"]["tuned"] = claim.tuned
    resumed = folder is not None
    folder = folder or place or RunFolder.plan(config["runs_dir"])
    check_targets(config)
    seed_global_generators(config["seed"], "build")
    plugins = build_plugins(config["plugins"])
    task: Task = instantiate(config["task"], "task")
    data = build_data(config, task)
    if resumed:
        same_data.check(data, folder, config["data"])
    model = build_model(config, task, data.suggested, load_weights=not resumed)
    plugins = useful_plugins(plugins, config)
    model = fold(plugins, "change_model", model)
    recipe = build_recipe(config, model, data, plugins)
    view = recipe_view(config, recipe, data, plugins, model.input_spec)
    loaders = data.loaders(model.input_spec, plugins, seed=config["seed"], view=view)
    budget = Budget(seconds_of(config["budget"]), started=started)
    choice = tuned(config, model, loaders, whole_model_steps=whole_model_steps(recipe, data))
    cache = PrefixCache(cache_options(config, data, plugins, view, choice=choice), seed=config["seed"], budget=budget)
    module = build_module(config, model, task, data, plugins, recipe, cache)
    module.pieces = pieces(config, folder)
    interrupt = StopBetweenBatches()
    trainer, metrics, checkpoints = build_trainer(
        config, folder, task, plugins, [interrupt, EndInTime(budget), *callbacks]
    )
    checkpoints.takes_place = partial(takes_place, recipe, task)
    refuse_with_shards(config, trainer, data, plugins, recipe)
    if module.optimizer_options.full_batch:
        refuse_with_full_batch(module, trainer, data, plugins)
    for plugin in plugins:
        plugin.prepare(module, trainer, loaders)
    module.outlook.check(trainer.max_epochs or 1)
    if not resumed and process_rank() == 0:
        if claim is not None:
            claim.begun(folder)
        begin(folder, config, task)
        same_data.keep(data, folder)
        list_bad_images(folder, data.bad_images)
    return Run(config, folder, resumed, data, loaders, module, trainer, metrics, checkpoints, interrupt)


def begin(folder: RunFolder, config: dict[str, Any], task: Task) -> None:
    """Makes the run folder, with what is known before training.

    Args:
        folder: Not there yet.
        config: Completed by what was built.
        task: Knows its classes.

    Raises:
        UserError: The place cannot be written to.
    """
    folder.create()
    write_whole(folder.config, OmegaConf.to_yaml(config))
    folder.write_json("classes.json", task.state_dict())


def build_model(config: dict[str, Any], task: Task, suggested: dict[str, Any], *, load_weights: bool) -> Any:
    """The model; what was found out about its weights is written into the config.

    Args:
        config: The whole config; its section ``model`` is completed.
        task: Says how many outputs there are.
        suggested: By the data: ``img_size`` and ``crop_pct``.
        load_weights: Off where a checkpoint's weights are loaded afterwards.

    Raises:
        UserError: ``model.num_classes`` contradicts the data, or the model cannot be built.
    """
    settings = config["model"]
    given = settings["num_classes"]
    if given is not None and given != task.num_outputs:
        names = ", ".join(task.classes[:5]) + (", ..." if task.num_outputs > 5 else "")
        raise UserError(f"model.num_classes={given}, but the data has {task.num_outputs} ({names}). Leave it out.")
    arguments = {key: value for key, value in settings.items() if key not in MODEL_KEYS}
    if not load_weights and "weights" in arguments:
        arguments["weights"] = "none"
    model = instantiate(arguments, "model", num_outputs=task.num_outputs, suggested=suggested)
    if hasattr(model, "weights"):
        # So that a resumed run, an evaluation and a reader see what was used, not what was wished for.
        spec = model.input_spec
        settings.setdefault("found", str(model.weights))
        settings["kwargs"] = {**model.weights.card.get("model_kwargs", {}), **settings["kwargs"]}
        settings["input"] = {
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": spec.interpolation,
            "crop_pct": spec.crop_pct,
        }
        settings["img_size"] = spec.height if spec.height == spec.width else None
    return model


def build_module(
    config: dict[str, Any],
    model: Any,
    task: Task,
    data: Data,
    plugins: list[Plugin],
    recipe: Recipe,
    cache: PrefixCache,
) -> FineTuner:
    """The LightningModule.

    Raises:
        UserError: The optimizer or schedule does not fit.
    """
    return FineTuner(
        model,
        task,
        optimizer=optimizer_options(config["optimizer"], config["choices"].get("optimizer")),
        schedule=schedule_options(config["schedule"]),
        plugins=plugins,
        recipe=recipe,
        cache=cache,
        bad_images=data.bad_images,
        seed=config["seed"],
    )


def optimizer_options(config: dict[str, Any], choice: str | None) -> OptimizerOptions:
    """Divides the optimizer's config into what the groups need and what its constructor takes.

    Args:
        config: The group ``optimizer``.
        choice: Name of its YAML, for messages.

    Raises:
        UserError: A value is out of range; found by building it once for a parameter of no importance.
    """
    for key in GROUP_KEYS:
        require(key in config, f"optimizer.{key}", "must be in the optimizer's YAML", "nothing")
    ours = {key: config[key] for key in GROUP_KEYS}
    rest = {key: value for key, value in config.items() if key not in GROUP_KEYS}
    target = locate(config["_target_"], "optimizer")
    # Weight decay reaches the optimizer with each group, so its constructor need not know of it.
    make = instantiate_later({**rest, "lr": config["lr"]}, "optimizer")

    def build_optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        try:
            return make(params=groups)
        except UserError:
            raise
        except (ValueError, TypeError) as error:
            raise UserError(f"optimizer: {error}.") from error

    options = OptimizerOptions(build_optimizer, name=str(rest.get("name") or choice or target.__name__), **ours)
    build_optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    return options


def schedule_options(config: dict[str, Any]) -> ScheduleOptions:
    """Divides the schedule's config into when it is asked and what it is told.

    Raises:
        UserError: A value is out of range; found by asking it once.
    """
    settings = dict(config)
    unit = settings.pop("unit")
    one_of(unit, ("epoch", "step"), "schedule.unit")
    watching = {key: settings.pop(key) for key in ("patience", "cooldown") if key in settings}
    options = ScheduleOptions(instantiate_later(settings, "schedule"), unit, **watching)
    for step in (0, 1):
        options.at(step, total_steps=1, steps_per_epoch=1, watched=[], mode="max")
    return options
