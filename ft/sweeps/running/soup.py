"""Which runs of a sweep may be averaged at its end, for ``sweep.soup=greedy``; ``ft.jobs.soup`` does it.

The best run of each trial, best first, as far as their configs promise weights of the same shapes and the same
validation images: another rate, optimizer, schedule, recipe, dropout or augmentation does not matter.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ft.job_folder import FINISHED
from ft.run_folder import RunFolder

MOST_MEMBERS = 8

# How a model is trained, not what it is.
OF_TRAINING = ("open", "head_init")
# How the training images are drawn; what is validated on stays the same.
OF_TRAINING_IMAGES = ("batch_size", "num_workers", "limit", "class_weights", "balanced", "decoded", "decoded_limit")
# What the loss is asked for in training; the loss itself says what a logit means.
OF_THE_LOSS = ("label_smoothing",)


def choose_members(
    rows: Sequence[Mapping[str, Any]], configs: Mapping[str, Mapping[str, Any]], *, mode: str, folder: Path
) -> list[Path]:
    """Run folders for a soup.

    Args:
        rows: Of ``trials.json``.
        configs: Of the jobs, by key, composed and resolved.
        mode: ``max`` or ``min``: which of two values is better.
        folder: Of the sweep.

    Returns:
        Best first, at most ``MOST_MEMBERS``; empty where no run has a value and a checkpoint.
    """
    sign = 1.0 if mode == "max" else -1.0
    best = []
    for row in rows:
        jobs = [job for job in row["jobs"] if row["state"] == FINISHED and _is_candidate(job, folder)]
        if jobs:
            best.append(max(jobs, key=lambda job: sign * job["value"]))
    # A stable sort: of equal ones the earlier trial.
    best.sort(key=lambda job: -sign * job["value"])
    unique = list({job["key"]: job for job in best}.values())
    alike = [job for job in unique if _identity(configs[job["key"]]) == _identity(configs[unique[0]["key"]])]
    return [folder / job["run"] for job in alike[:MOST_MEMBERS]]


def _is_candidate(job: Mapping[str, Any], folder: Path) -> bool:
    value = job.get("value")
    if job["status"] != FINISHED or value is None or not math.isfinite(value):
        return False
    # Of heads that were computed together only their numbers may be there.
    return RunFolder(folder / job["run"]).best.is_dir()


def _identity(config: Mapping[str, Any]) -> list[Any]:
    """What has to be the same."""
    model = _without_drop_rates({key: value for key, value in config["model"].items() if key not in OF_TRAINING})
    data = {key: value for key, value in config["data"].items() if key not in OF_TRAINING_IMAGES}
    task = {key: value for key, value in config["task"].items() if key not in OF_THE_LOSS}
    return [model, data, task]


def _without_drop_rates(section: Mapping[str, Any]) -> dict[str, Any]:
    """timm calls them ``drop_rate``, ``drop_path_rate``, ``attn_drop_rate``, ...: none of them has weights."""
    return {
        key: _without_drop_rates(value) if isinstance(value, Mapping) else value
        for key, value in section.items()
        if not key.endswith(("drop_rate", "drop_path_rate"))
    }
