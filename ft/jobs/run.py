"""One training run of a sweep: in a folder that was chosen for it, gone on with where it was begun."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from omegaconf import DictConfig

from ft.build.run import build
from ft.build.trainer import process_rank
from ft.fit import fit
from ft.job_folder import FINISHED, PRUNED, Job, JobFolder, Result
from ft.run_folder import RunFolder


class NotANumber(ValueError):
    """The metric of the best epoch is none."""


def run(folder: JobFolder, config: DictConfig, *, started: float) -> None:
    """Trains and tests, and writes what came of it.

    Args:
        folder: Of the job.
        config: Composed, as the verb gets it.
        started: When the wait for it began, as ``time.monotonic()`` tells it.

    Raises:
        NotANumber: The best value of the task's metric is no number.
    """
    job = folder.job()
    place = RunFolder(Path(job.run))
    # Other processes of the same run find what the first has prepared.
    spared = _prepare(job, place, config) if process_rank() == 0 else 0.0
    callbacks, pruning = _callbacks(job)
    training = build(config, started=started, place=place, callbacks=callbacks)
    value = fit(training, started=started)
    if not training.trainer.is_global_zero:
        return
    if value is not None and math.isnan(value):
        raise NotANumber(f"{training.module.task.metric} is not a number.")
    status = PRUNED if pruning is not None and pruning.pruned else FINISHED
    summary = json.loads(place.summary.read_text(encoding="utf-8"))
    seconds = round(time.monotonic() - started, 2)
    folder.answer(
        Result(status, value=value, metrics=numbers(summary), seconds=seconds, shared_seconds=round(spared, 2))
    )


def numbers(summary: dict[str, Any]) -> dict[str, float]:
    """What of a run's summary is a number, ``seed`` apart: that is a setting."""
    kept = {key: value for key, value in summary.items() if isinstance(value, int | float) and key != "seed"}
    return {key: float(value) for key, value in kept.items() if not isinstance(value, bool)}


def _prepare(job: Job, place: RunFolder, config: DictConfig) -> float:
    """Makes way for the run, or begins it with the first phases of another; the seconds that this saves."""
    if place.path.is_dir() and not place.last.is_dir():
        # Killed before its first epoch ended: there is nothing in it to go on with.
        shutil.rmtree(place.path)
    fork = job.settings.get("fork")
    if fork is None or place.path.is_dir():
        return 0.0
    from ft.jobs.fork import begin_from

    return begin_from(RunFolder(Path(fork["from"])), fork["phase"], place, config)


def _callbacks(job: Job) -> tuple[list[Callback], Any]:
    callbacks: list[Callback] = []
    pruning = None
    # Their imports are paid by the jobs that want them.
    if job.settings.get("keep_phases"):
        from ft.jobs.fork import KeepPhases

        callbacks.append(KeepPhases(job.settings["keep_phases"]))
    if job.trial:
        from ft.jobs.pruning import Pruning

        pruning = Pruning(job.trial)
        callbacks.append(pruning)
    return callbacks, pruning
