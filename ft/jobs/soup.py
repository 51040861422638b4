"""The average of the best runs of a sweep, as far as validation says that it is better: a run like any other.

    a 0.951   b 0.949   c 0.947                    a + b   0.954   kept
                                                   a + b + c   0.953   c is left out

Greedy soup, Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, recipe 1. All members start from the same
pretrained weights, which is what makes their average a model. BatchNorm's statistics are averaged like weights. All
values are measured here and in the same way; a run's own may differ in its last digits, where its validation images
were stored in half precision before an open stage.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import safe_open

from ft.build import same_data
from ft.build.run import Run, build
from ft.build.stored_config import read_config
from ft.checkpoint.greedy import greedy, mean_weights
from ft.checkpoint.load import load, read_weights
from ft.checkpoint.manifest import WEIGHTS, verify
from ft.checkpoint.save import save
from ft.errors import UserError
from ft.fit import finish, predict_splits
from ft.inference.reading import Reading
from ft.job_folder import FINISHED, JobFolder, Result
from ft.jobs.fork import fresh_folder, link_folder
from ft.jobs.run import numbers
from ft.run_folder import RunFolder


def make_soup(folder: JobFolder, config: DictConfig, *, started: float) -> None:
    """Averages, validates and tests, writes a run folder and what came of it.

    Args:
        folder: Of a job of kind ``soup``; its setting ``members`` names run folders, best first.
        config: Composed as for the best member; says whether to test.
        started: When the wait for it began, as ``time.monotonic()`` tells it.

    Raises:
        UserError: The best member has no checkpoint, or the validation split has no image that can be read.
    """
    job = folder.job()
    place = RunFolder(Path(job.run))
    members, left_out = compatible([RunFolder(Path(path)) for path in job.settings["members"]])
    # Made beside its place: a run folder that is there is a whole one.
    fresh = RunFolder(fresh_folder(place.path))
    _as_begun(fresh, members[0])
    run = build(config, started=started, place=fresh)
    tried: dict[tuple[Path, ...], dict[str, float]] = {}

    def score(chosen: Sequence[RunFolder]) -> float:
        run.module.load_state_dict(_mean(chosen))
        values = validate(run)
        tried[tuple(member.path for member in chosen)] = values
        sign = 1.0 if run.module.task.mode == "max" else -1.0
        return sign * values[run.module.task.metric]

    chosen = greedy(members, score)
    values = tried[tuple(member.path for member in chosen)]
    run.checkpoints.best, run.checkpoints.best_values = values[run.module.task.metric], values
    _write_checkpoints(run, chosen)
    tested = predict_splits(run) if config.test else {}
    finish(run, "finished", tested, started)
    told = [{"run": str(member.path), "kept": member in chosen} for member in members]
    told += [{"run": str(path), "kept": False, "why": why} for path, why in left_out]
    fresh.write_json("soup.json", {"members": told, "tried": [_as_told(*pair) for pair in tried.items()]})
    if place.path.is_dir():
        shutil.rmtree(place.path)  # of an attempt that was killed before it could answer
    fresh.path.rename(place.path)
    summary = json.loads(place.summary.read_text(encoding="utf-8"))
    best_member = tried[members[0].path,]
    folder.answer(
        Result(
            FINISHED,
            message=in_words(run.module.task.metric, len(chosen), len(members), values, best_member, left_out),
            value=values[run.module.task.metric],
            metrics={**numbers(summary), "members_kept": float(len(chosen))},
            seconds=round(time.monotonic() - started, 2),
        )
    )


def compatible(members: Sequence[RunFolder]) -> tuple[list[RunFolder], list[tuple[Path, str]]]:
    """Those whose best weights can be averaged with the first one's, and why the others cannot.

    Raises:
        UserError: The first has no checkpoint, or a damaged one.
    """
    first, *others = members
    verify(first.checkpoint("best"))
    kept, left_out = [first], []
    for member in others:
        why = _why_not(first, member)
        if why:
            left_out.append((member.path, why))
        else:
            kept.append(member)
    return kept, left_out


def validate(run: Run) -> dict[str, float]:
    """The validation loss and metrics of the weights that are in the model now.

    Raises:
        UserError: Not one image of the split can be read.
    """
    task = run.module.task
    run.trainer.predict(run.module, run.loaders.evaluation_loader("val"), return_predictions=False)
    found = run.module.collector.predictions("val", Reading.of_task(task), run.data.splits["val"].names)
    if found is None:
        raise UserError("sweep.soup=greedy validates every average, and no image of the validation split can be read.")
    metrics = task.metrics()
    metrics.update(task.probabilities(found.logits), task.metric_targets(found.targets))
    values = {f"val/{name}": float(value) for name, value in metrics.compute().items()}
    with torch.no_grad():
        return {"val/loss": float(task.loss(found.logits, found.targets)), **values}


def in_words(
    metric: str,
    num_chosen: int,
    num_members: int,
    values: dict[str, float],
    best_member: dict[str, float],
    left_out: Sequence[tuple[Path, str]],
) -> str:
    """What came of it, in a line; a second one names runs that could not be averaged."""
    value = values[metric]
    if num_members == 1:
        said = f"there is one run that can be averaged: {metric} {value:.4f}"
    elif num_chosen == 1:
        said = f"no average is as good as the best of {num_members} runs: {metric} {value:.4f}"
    else:
        said = (
            f"soup of {num_chosen} of {num_members} runs: {metric} {value:.4f} (best member {best_member[metric]:.4f})"
        )
    others = "; ".join(f"{path.name} {why}" for path, why in left_out)
    return f"{said}\nleft out: {others}" if others else said


def _why_not(first: RunFolder, member: RunFolder) -> str:
    try:
        verify(member.checkpoint("best"))
    except UserError as error:
        return f"has no best weights ({str(error).splitlines()[0]})"
    classes = [json.loads((run.path / "classes.json").read_text(encoding="utf-8")) for run in (first, member)]
    if classes[0] != classes[1]:
        return "has other classes"
    if _shapes(first) != _shapes(member):
        return "has other weights"
    return ""


def _shapes(run: RunFolder) -> dict[str, tuple[str, list[int]]]:
    """Kind and shape of each tensor, read from the file's header."""
    with safe_open(run.best / WEIGHTS, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}


def _mean(members: Sequence[RunFolder]) -> dict[str, torch.Tensor]:
    return mean_weights(read_weights(member.best) for member in members)


def _as_begun(fresh: RunFolder, best: RunFolder) -> None:
    """What ``build`` needs to go on with the best member's config, without loading pretrained weights."""
    link_folder(best.best, fresh.last)
    shutil.copyfile(best.path / "classes.json", fresh.path / "classes.json")
    same_data.copy(best, fresh)
    config: Any = read_config(best.config)
    # Other processes would be started with the command of the whole sweep.
    alone = {"devices": 1, "strategy": "auto", "num_nodes": 1}
    config.trainer.update({key: value for key, value in alone.items() if key in config.trainer})
    OmegaConf.save(config, fresh.config)


def _write_checkpoints(run: Run, chosen: Sequence[RunFolder]) -> None:
    """``best`` and ``last`` with the averaged weights; all else is the best member's."""
    checkpoint = load(chosen[0].best)
    checkpoint["state_dict"] = _mean(chosen)
    checkpoint["callbacks"][run.checkpoints.state_key] = run.checkpoints.state_dict()
    save(checkpoint, run.folder.best)
    shutil.rmtree(run.folder.last)
    link_folder(run.folder.best, run.folder.last)


def _as_told(members: tuple[Path, ...], values: dict[str, float]) -> dict[str, Any]:
    return {"runs": [path.name for path in members], **values}
