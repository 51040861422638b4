"""A sweep whose outcome is known, with everything that a report reads of it, without a training."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from ft.inference.predictions import Predictions
from ft.inference.reading import Reading
from ft.job_folder import FAILED, FINISHED, PRUNED, Job, JobFolder, Result
from ft.sweeps.space.overrides import as_overrides

IMAGES = 425
SPACE = {
    "optimizer": "choice(adam, adamw, nadam, sgd)",
    "optimizer.lr": "tag(log, interval(1e-5, 1e-1))",
    "model.head.drop_rate": "interval(0, 0.5)",
}
Params = Mapping[str, Any]
# Of a sweep with one parameter: share of images that are right.
SKILLS = {"adam": 0.93, "adamw": 0.94, "nadam": 0.936, "sgd": 0.80}


def eight_trials(number: int) -> Params:
    """The first is the best; momentum is there for sgd only."""
    name = ("adamw", "nadam", "adam", "sgd")[number % 4]
    rate = 10 ** -(2 + 0.4 * number)
    momentum = {"optimizer.momentum": 0.8 + 0.02 * number} if name == "sgd" else {}
    return {"optimizer": name, "optimizer.lr": rate, "model.head.drop_rate": 0.05 * number, **momentum}


def make_sweep(
    folder: Path,
    *,
    params: Callable[[int], Params] = eight_trials,
    skill: Callable[[int, Params], float] = lambda number, params: 0.95 - 0.02 * number,
    states: Sequence[str] = (*(FINISHED,) * 6, PRUNED, FAILED),
    seeds: int = 2,
    task: str = "classification",
    images: int = IMAGES,
    epochs: int = 4,
    overrides: Sequence[str] = (),
    **asked: Any,
) -> Path:
    """Writes the folder of a sweep.

    Args:
        folder: ``RUNS_DIR/sweeps/NAME``.
        params: Of a trial, by its number.
        skill: Share of the images that it gets right, or the standard deviation of its errors.
        states: One a trial.
        seeds: Runs a trial.
        task: ``classification`` or ``regression``.
        images: Of the validation split.
        epochs: Of a run that is not pruned.
        overrides: Of every run.
        asked: Further keys of ``sweep.yaml``.
    """
    metric, mode = ("val/acc", "max") if task == "classification" else ("val/mae", "min")
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "name": folder.name, "choice": "tune", "metric": metric, "mode": mode, "metrics": {metric: mode},
        "sampler": "tpe", "seeds": seeds, "space": SPACE, "overrides": list(overrides),
        "created": "2026-01-31 14:05:09", **asked,
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    rows = []
    for number, state in enumerate(states):
        chosen = params(number)
        jobs = [
            _job(folder, number, seed, chosen, state, skill(number, chosen), metric, task, images, epochs, overrides)
            for seed in range(seeds)
        ]
        values = [job["value"] for job in jobs if job.get("value") is not None]
        value = sum(values) / len(values) if values and state != FAILED else None
        metrics = {} if value is None else {metric: value, metric.replace("val/", "test/"): value - 0.01, "epochs": 4.0}
        seconds = sum(job.get("seconds", 0.0) for job in jobs)
        rows.append({"number": number, "params": dict(chosen), "state": state, "value": value, "metrics": metrics,
                     "jobs": jobs, "seconds": seconds})  # fmt: skip
    (folder / "trials.json").write_text(json.dumps(rows))
    return folder


def _job(
    folder: Path, number: int, seed: int, params: Params, state: str, skill: float, metric: str, task: str,
    images: int, epochs: int, overrides: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    key = f"{number:04x}{seed:08x}"
    place = f"runs/{number:03d}_{key}"
    head = {"key": key, "seed": seed, "run": place}
    words = [*overrides, *as_overrides(params), f"seed={seed}"]
    job = JobFolder(folder / "jobs" / key)
    job.ask(Job("run", key, run=str(folder / place), overrides=tuple(words)), "{}\n")
    if state in ("running", "interrupted"):
        return {**head, "status": ""}
    if state == FAILED:
        message = f"optimizer.lr must be above 0, got {params.get('optimizer.lr', 0):g}.\nSee the traceback."
        job.answer(Result(FAILED, why="mistake", message=message, seconds=1.5))
        return {**head, **json.loads((job.path / "result.json").read_text())}
    run = folder / place
    run.mkdir(parents=True)
    trained = epochs if state == FINISHED else 1
    luck = 0.003 * ((7 * seed + 3 * number) % 5 - 2)
    found = said(task, images, skill + luck, seed=1000 * seed + number)
    value = score(found)
    curve = [(epoch, value - 0.1 * math.exp(-epoch) if task == "classification" else value + math.exp(-epoch))
             for epoch in range(trained)]  # fmt: skip
    lines = [f"{epoch},{at:.6f},{(1 + 0.05 * number + 0.1 * seed) / (epoch + 1):.6f}"
             for epoch, at in curve]  # fmt: skip
    (run / "metrics.csv").write_text("\n".join([f"epoch,{metric},val/loss", *lines]) + "\n")
    (run / "summary.json").write_text(json.dumps({metric: value, "seconds": 10.0 + number}))
    (run / "config.yaml").write_text("seed: 0\n")
    if state == FINISHED:
        found.save(run)
    seconds = (10.0 + 3 * number) * trained / epochs
    job.answer(Result(state, value=value, metrics={metric: value}, seconds=seconds))
    return {**head, **json.loads((job.path / "result.json").read_text())}


def said(task: str, images: int, skill: float, *, seed: int) -> Predictions:
    """Of the same images for every seed: how hard they are is theirs, so that two runs err on similar ones."""
    hard = torch.rand(images, generator=torch.Generator().manual_seed(7))
    noise = torch.randn(images, generator=torch.Generator().manual_seed(seed))
    names = tuple(f"{at}.jpg" for at in range(images))
    index = torch.arange(images)
    if task == "regression":
        targets = (100 * hard)[:, None]
        reading = Reading("regression", ("weight",), "linear", mean=(50.0,), std=(30.0,))
        logits = (targets + skill * noise[:, None] - 50) / 30
        return Predictions("val", reading, names, index, targets, logits)
    right = torch.zeros(images, dtype=torch.bool)
    right[(hard + 0.03 * noise).argsort()[: round(skill * images)]] = True
    targets = index % 3
    chosen = torch.where(right, targets, (targets + 1) % 3)
    logits = 4.0 * torch.nn.functional.one_hot(chosen, 3)
    return Predictions("val", Reading("classification", ("a", "b", "c"), "softmax"), names, index, targets, logits)


def score(found: Predictions) -> float:
    """The task's metric."""
    if found.reading.task == "regression":
        return float((found.told - found.targets).abs().mean())
    return float((found.told.argmax(1) == found.targets).float().mean())
