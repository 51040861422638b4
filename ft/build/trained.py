"""From a run folder to its trained model, without its data set: what prediction, export and serving start from."""

from typing import Any

from omegaconf import OmegaConf

from ft.build.older import complete
from ft.build.plugins import build_plugins, useful_plugins
from ft.build.run import build_model
from ft.build.stored_config import read_config
from ft.checkpoint.load import load_model_weights
from ft.errors import UserError, one_of
from ft.inference.pixels import DTYPES, on_pixels, torch_device
from ft.inference.predictor import Predictor
from ft.inference.reading import Reading
from ft.instantiate import check_targets, instantiate
from ft.plain_files import read_json
from ft.plugin import fold
from ft.run_folder import RunFolder
from ft.tasks.task import Task


def stored_config(folder: RunFolder) -> dict[str, Any]:
    """The config of a run, checked before anything of it is built."""
    config: Any = complete(OmegaConf.to_container(read_config(folder.config)))  # pyright: ignore
    check_targets(config)
    return config


def stored_task(folder: RunFolder, config: dict[str, Any]) -> Task:
    """The task with the classes of the run."""
    task: Task = instantiate(config["task"], "task")
    file = folder.path / "classes.json"
    try:
        task.load_state_dict(read_json(file))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file} is damaged: {type(error).__name__}: {error}.") from None
    return task


def stored_reading(folder: RunFolder, task: Task) -> Reading:
    """What the logits mean; uncalibrated for a run that never came to its end."""
    if not folder.reading.is_file():
        return Reading.of_task(task)
    try:
        return Reading.from_dict(read_json(folder.reading))
    except TypeError as error:
        raise UserError(f"{folder.reading} is damaged: {error}.") from None


def load_predictor(folder: RunFolder, *, device: str = "cpu", precision: str = "fp32") -> Predictor:
    """A run's best weights, ready to look at images.

    Args:
        folder: Of the run.
        device: ``auto``, ``cpu``, ``cuda`` or another of torch's.
        precision: ``fp32``, or ``bf16``.

    Raises:
        UserError: The run has no checkpoint, or one that is damaged or of another model.
    """
    one_of(precision, DTYPES, "precision")
    config = stored_config(folder)
    checkpoint = folder.checkpoint("best")
    task = stored_task(folder, config)
    model = build_model(config, task, config["data"]["suggested"], load_weights=False)
    plugins = useful_plugins(build_plugins(config["plugins"]), config)
    model = fold(plugins, "change_model", model)
    load_model_weights(checkpoint, model)
    model = fold(plugins, "export_model", model).eval().requires_grad_(False)
    spec, where = model.input_spec, torch_device(device)
    model.to(where)
    settings = config["model"]
    card = {
        "backbone": settings.get("name", type(model).__name__),
        "weights": settings.get("found", "the model's own"),
        "run": folder.path.name,
        "data": config["choices"].get("data"),
        "head": settings.get("head"),
        "summary": read_json(folder.summary) if folder.summary.is_file() else {},
    }
    features = getattr(model, "features", None)
    return Predictor(
        spec=spec,
        reading=stored_reading(folder, task),
        run=on_pixels(model, spec, where, DTYPES[precision]),
        embed=None if features is None else on_pixels(features, spec, where, DTYPES[precision]),
        model=model,
        origin=str(folder.path),
        card=card,
    )
