"""From a run folder to what its report is made from: predictions, the model, and its images where they still are."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ft.build.data import Data, build_data
from ft.build.evaluation import build_evaluation
from ft.build.trained import load_predictor, stored_config, stored_task
from ft.build.training_views import pictures
from ft.errors import UserError, one_of
from ft.inference.calibrate import calibrated
from ft.inference.material import Material
from ft.inference.predictions import Predictions
from ft.run_folder import RunFolder

# A report is about images that training has not seen, the test split before the others.
SPLITS = ("test", "val", "train")


def build_report(composed: DictConfig) -> Material:
    """What ``ft.report`` writes about; computes the predictions that are missing, and stores them.

    Raises:
        UserError: There is no such run, checkpoint or split.
    """
    wishes: Any = OmegaConf.to_container(composed, resolve=True)
    if not wishes["run"]:
        raise UserError("ft.report needs run=RUN_FOLDER, or run=last.")
    one_of(wishes["split"], ("auto", *SPLITS), "split")
    folder = RunFolder.find(wishes["run"], runs_dir=wishes["runs_dir"], key="run")
    predictor = load_predictor(folder, device=wishes["device"])
    config = stored_config(folder)
    task = stored_task(folder, config)
    try:
        data, why = build_data(config, task, fit_labels=False), ""
    except UserError as error:
        data, why = None, str(error)
    split = _split(wishes["split"], folder, data, why)
    if not _is_stored(folder, split):
        _predict(wishes, folder, split, data)
        predictor = dataclasses.replace(predictor, reading=Predictions.load(folder.path, split).reading)
    found = {name: Predictions.load(folder.path, name) for name in SPLITS if _is_stored(folder, name)}
    if data is not None and not all(_shows(data, predictions) for predictions in found.values()):
        data, why = None, "the data set has other images now than when the predictions were made"
    return Material(
        run=folder.path,
        split=split,
        predictions=found,
        predictor=predictor,
        stages=[stage.name for stage in predictor.model.stages()],
        config=config,
        metric=task.metric,
        pictures=None if data is None else pictures(config, task, data, predictor.model),
        why_no_pictures=why,
    )


def _shows(data: Data, predictions: Predictions) -> bool:
    """Whether a position in the predictions' split is still the image that it was."""
    split = data.splits.get(predictions.split)
    places = predictions.index.tolist()
    if split is None or (places and max(places) >= len(split.names)):
        return False
    return tuple(split.names[place] for place in places) == predictions.names


def _is_stored(folder: RunFolder, split: str) -> bool:
    return (folder.path / "predictions" / f"{split}.safetensors").is_file()


def _split(wanted: str, folder: RunFolder, data: Data | None, why: str) -> str:
    """The split to tell of: as asked, else the first of ``SPLITS`` that there is."""
    names = [name for name in SPLITS if _is_stored(folder, name) or (data is not None and name in data.splits)]
    if not names:
        raise UserError(f"{folder.path} has no predictions, and its data set is not there: {why}")
    if wanted == "auto":
        return names[0]
    one_of(wanted, names, "split")
    return wanted


def _predict(wishes: Mapping[str, Any], folder: RunFolder, split: str, data: Data | None) -> None:
    """Stores what the best checkpoint says of a split; first finds out what its logits mean, if nobody has yet."""
    todo = [split]
    if not folder.reading.is_file() and data is not None and "val" in data.splits and split != "val":
        todo = ["val", split]
    for name in todo:
        evaluation = build_evaluation(OmegaConf.create({**wishes, "split": name}))
        evaluation.trainer.test(evaluation.module, evaluation.loader, verbose=False)
        names = evaluation.data.splits[name].names
        found = evaluation.module.collector.predictions(name, evaluation.reading, names)
        if found is None:
            raise UserError(f"not one image of the {name} split can be read.")
        if name == "val" and not folder.reading.is_file():
            found = dataclasses.replace(found, reading=calibrated(found.reading, found.logits, found.targets))
            folder.write_json(folder.reading.name, found.reading.as_dict())
        found.save(folder.path)
