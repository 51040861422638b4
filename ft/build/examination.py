"""From a config, or a run's own, to what ``ft.doctor`` looks at: the data with its labels, and a backbone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ft.build.data import Data, build_data
from ft.build.features import backbone_features
from ft.build.resume import resumed_config
from ft.build.run import build_model
from ft.build.trained import stored_config, stored_task
from ft.build.trainer import lightning_quiet
from ft.errors import UserError, one_of
from ft.inference.pixels import DTYPES, torch_device
from ft.input_spec import InputSpec
from ft.instantiate import check_targets, instantiate
from ft.run_folder import RunFolder
from ft.tasks.task import Task

Tick = Callable[[int], None]


@dataclass
class Examination:
    """What is looked at.

    Attributes:
        data: All splits, as training would have them; files without a valid header are in ``bad_images``.
        task: Knows the classes.
        spec: What the model sees of an image.
        features: Gives ``(R,)`` positions in all splits and ``(R, F)`` features of the pretrained backbone.
        no_features: Why there are none, where ``features`` is ``None``.
    """

    data: Data
    task: Task
    spec: InputSpec
    features: Callable[[Tick], tuple[np.ndarray, np.ndarray]] | None
    no_features: str


def find_run(composed: DictConfig) -> RunFolder | None:
    """The run whose data is to be looked at, if there is one.

    Raises:
        UserError: There is no such run, or data or model are named besides.
    """
    if composed.run is None:
        return None
    folder = RunFolder.find(str(composed.run), runs_dir=composed.runs_dir, key="run")
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        if key.partition(".")[0].partition("@")[0] in ("data", "model", "task", "experiment"):
            raise UserError(f"run={composed.run} has its own data and model: leave {key} out, or leave run out.")
    return folder


def build_examination(composed: DictConfig, folder: RunFolder | None) -> Examination:
    """Builds what ``ft.doctor`` looks at.

    Args:
        composed: The whole config.
        folder: Of a run whose config takes its place.

    Raises:
        UserError: Anything that is wrong with the config, or so wrong with the data that nothing can be looked at.
    """
    lightning_quiet()
    wishes: Any = OmegaConf.to_container(composed, resolve=True)
    one_of(wishes["precision"], DTYPES, "precision")
    if folder is None:
        config = resumed_config(composed)[1]
        check_targets(config)
        task: Task = instantiate(config["task"], "task")
    else:
        config = stored_config(folder)
        task = stored_task(folder, config)
    # Here all of them are listed, and what the loss makes of the classes does not matter.
    config["data"].update(on_bad="skip", class_weights=None)
    data = build_data(config, task, fit_labels=folder is None, decode=False)
    no_features = "labels=false" if not wishes["labels"] else ""
    if task.name != "classification":
        no_features = f"task={task.name} has no classes to mistake"
    model = build_model(config, task, data.suggested, load_weights=not no_features)
    if not no_features and not hasattr(model, "features"):
        no_features = f"{type(model).__name__} gives no features"
    elif not no_features and model.weights.kind == "random":
        no_features = f"the weights are random: {model.weights.where}"
    compute = partial(
        backbone_features,
        model,
        data,
        config["cache"],
        device=torch_device(wishes["device"]),
        precision=wishes["precision"],
    )
    return Examination(
        data, task, model.input_spec, None if no_features else lambda tick: compute(tick=tick), no_features
    )
