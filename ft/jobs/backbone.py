"""What a pretrained backbone is worth for a data set, before anything is trained.

    images --> backbone, as it is --> features --> solved head, every fold held out once --> the task's metric

The metric is of all held-out images together. Its standard error is a bootstrap's over the images; every candidate is
given the same draws, so that the difference of two of them has a standard error as well. LogME stands beside it.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from ft.build.data import build_data
from ft.build.features import backbone_features
from ft.build.resume import resumed_config
from ft.build.run import build_model
from ft.build.trainer import lightning_quiet
from ft.build.tuning import device_of
from ft.data.bad_images import BadImages
from ft.data.transforms import normalize
from ft.errors import UserError, require
from ft.input_spec import InputSpec
from ft.instantiate import check_targets, instantiate
from ft.job_folder import FINISHED, JobFolder, Result
from ft.jobs.backbone_cost import measure_costs
from ft.jobs.backbone_view import fast_precision, has_fixed_size, lower, some_of
from ft.jobs.bootstrap import bootstrapped
from ft.optim.held_out_head import assign_folds, held_out_logits
from ft.optim.logme import logme
from ft.tasks.task import Task

# Beside result.json, for comparisons: logits and targets of the held-out images, and the metric of each bootstrap.
HELD_OUT = "held_out.npz"


@dataclass(frozen=True)
class Asked:
    """The settings of such a job.

    Attributes:
        resolution: Side of the images, as a share of the candidate's own; ``None``: its own.
        images: Of the training split, at most; ``None``: all.
        folds: Of the cross-validation.
    """

    resolution: float | None
    images: int | None
    folds: int


def score_backbone(folder: JobFolder, config: DictConfig, *, started: float) -> None:
    """Scores one candidate, or measures what several cost where the settings name ``models``.

    Args:
        folder: Of the job.
        config: Composed; its model is the candidate.
        started: When the wait for it began, as ``time.monotonic()`` tells it.

    Raises:
        UserError: The candidate has no pretrained weights or gives no features, or the data cannot be used.
    """
    lightning_quiet()
    settings = dict(folder.job().settings)
    plain = resumed_config(config)[1]
    check_targets(plain)
    if "models" in settings:
        measure_costs(folder, plain, started=started)
        return
    asked = Asked(**settings)
    task: Task = instantiate(plain["task"], "task")
    # What the loss makes of the classes does not matter here.
    plain["data"]["class_weights"] = None
    # Decoded as their features are computed: what cannot be is then known too.
    data = build_data(plain, task, decode=False)
    sample = some_of(data.splits["train"], asked.images, seed=plain["data"]["split_seed"])
    require(
        2 <= asked.folds <= len(sample.targets), "sweep.folds", f"must be in [2, {len(sample.targets)}]", asked.folds
    )
    model = build_model(plain, task, data.suggested, load_weights=True)
    name = plain["model"].get("name", type(model).__name__)
    if not hasattr(model, "features"):
        raise UserError(f"{name} gives no features: leave it out of sweep.candidates.")
    if hasattr(model, "weights") and model.weights.kind == "random":
        raise UserError(f"the weights of {name} are random: {model.weights.where}. Leave it out of sweep.candidates.")
    device = device_of(plain["trainer"]["accelerator"]) or torch.device("cpu")
    facts = {"parameters": sum(each.numel() for each in model.parameters()), "gmacs": gmacs(model, model.input_spec)}
    model.input_spec = lower(model.input_spec, asked.resolution, fixed=has_fixed_size(model))
    bad = BadImages(plain["data"]["on_bad"], {"train": sample.names}, [], {})
    rows, features = backbone_features(
        model,
        replace(data, splits={"train": sample}),
        plain["cache"],
        device=device,
        precision=fast_precision(plain["trainer"]["precision"], device),
        tick=lambda done: None,
        failed=bad.record,
    )
    computed = time.monotonic()
    targets = sample.targets[torch.from_numpy(rows)]
    found = _score(task, features, targets, asked.folds)
    _keep(folder.path / HELD_OUT, rows=rows, targets=targets.numpy(), **found.arrays)
    facts |= {"images": len(rows), "side": model.input_spec.height, "features": features.shape[1]}
    seconds = {"solve_seconds": round(time.monotonic() - computed, 2), "unreadable": len(bad.found)}
    name = task.metric.rpartition("/")[2]
    metrics = {f"cv/{name}": found.value, "cv/se": found.error, "logme": found.logme, **facts, **seconds}
    total = round(time.monotonic() - started, 2)
    folder.answer(Result(FINISHED, value=found.value, metrics=metrics, seconds=total))


@dataclass(frozen=True)
class Score:
    """What the features are worth.

    Attributes:
        value: The task's metric of all held-out images.
        error: Its standard error.
        logme: Evidence.
        arrays: ``logits`` ``(N, K)`` and ``bootstraps`` ``(R,)``.
    """

    value: float
    error: float
    logme: float
    arrays: dict[str, np.ndarray]


def _score(task: Task, features: np.ndarray, targets: torch.Tensor, num_folds: int) -> Score:
    wanted = task.solver_targets(targets).numpy()
    folds = assign_folds(wanted, num_folds, seed=0)
    logits = held_out_logits(features, wanted, task.solved_as, num_outputs=task.num_outputs, folds=folds)
    value, values = bootstrapped(task, torch.from_numpy(logits).float(), targets)
    numbers = wanted if wanted.ndim == 2 else np.eye(task.num_outputs)[wanted]
    evidence = logme(features, numbers)
    return Score(value, float(values.std(ddof=1)), evidence, {"logits": logits, "bootstraps": values})


@torch.inference_mode()
def gmacs(model: Any, spec: InputSpec) -> float:
    """Multiply-adds of one image's features, in thousand millions."""
    pixels = torch.zeros(1, spec.channels, spec.height, spec.width, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        model.eval().features(normalize(pixels, spec))
    return counter.get_total_flops() / 2e9


def _keep(path: Path, **arrays: np.ndarray) -> None:
    fresh = path.with_name(f".new.{path.name}")
    np.savez_compressed(fresh, **arrays)  # pyright: ignore[reportArgumentType] -- typed as if one were a flag
    fresh.replace(path)
