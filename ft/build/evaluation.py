"""From a run folder to what ``ft.evaluate`` runs."""

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from ft.build.data import Data, build_data
from ft.build.plugins import build_plugins, useful_plugins
from ft.build.recipe import build_recipe, cache_options
from ft.build.run import build_model, build_module
from ft.build.trained import stored_config, stored_reading, stored_task
from ft.build.trainer import automatic_precision, lightning_quiet
from ft.build.tuning import device_of
from ft.checkpoint.load import load_weights
from ft.data.loader import Loader
from ft.errors import UserError, one_of
from ft.inference.reading import Reading
from ft.machine.choice import choice_from_config
from ft.module import FineTuner
from ft.phases.budget import Budget
from ft.phases.prefix_cache import PrefixCache
from ft.plugin import fold
from ft.run_folder import RunFolder


@dataclass
class Evaluation:
    """Everything the evaluation of a run needs."""

    folder: RunFolder
    split: str
    checkpoint: str
    module: FineTuner
    loader: Loader
    trainer: Trainer
    data: Data
    reading: Reading


def build_evaluation(composed: DictConfig) -> Evaluation:
    """Builds what ``ft.evaluate`` runs: the run's own config, its best weights, one split.

    Raises:
        UserError: There is no such run, checkpoint or split.
    """
    lightning_quiet()
    wishes = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(wishes, dict)
    if not wishes["run"]:
        raise UserError("ft.evaluate needs run=RUN_FOLDER, or run=last.")
    folder = RunFolder.find(wishes["run"], runs_dir=wishes["runs_dir"], key="run")
    config = stored_config(folder)
    for key in ("batch_size", "num_workers"):
        config["data"][key] = config["data"][key] if wishes[key] is None else wishes[key]
    plugins = build_plugins(config["plugins"])
    task = stored_task(folder, config)
    data = build_data(config, task, fit_labels=False)
    one_of(wishes["split"], data.splits, "split")
    model = build_model(config, task, data.suggested, load_weights=False)
    plugins = useful_plugins(plugins, config)
    model = fold(plugins, "change_model", model)
    recipe = build_recipe(config, model, data, plugins)
    cache = PrefixCache(
        cache_options(config, data, plugins, None, choice=None), seed=0, budget=Budget(None, started=0.0)
    )
    module = build_module(config, model, task, data, plugins, recipe, cache)
    checkpoint = folder.checkpoint("best")
    load_weights(checkpoint, module)
    # Bad images are then looked up under the split that is evaluated, whatever Lightning calls its loop.
    module.bad_images.stand_in("test", wishes["split"])
    loader = data.loaders(model.input_spec, [], seed=0).evaluation_loader(wishes["split"])
    precision: Any = config["trainer"]["precision"]
    if precision == "auto":
        precision = automatic_precision(wishes["accelerator"])
        choice, here = choice_from_config(config), device_of(wishes["accelerator"])
        # As it was validated, so that the same split has the same metrics; on another kind of device, what is usual.
        if choice is not None and here is not None and here.type == choice.device:
            precision = choice.train_precision
    trainer = Trainer(
        accelerator=wishes["accelerator"],
        precision=precision,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    return Evaluation(
        folder, wishes["split"], checkpoint.name, module, loader, trainer, data, stored_reading(folder, task)
    )
