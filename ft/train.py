"""``python -m ft.train``: fine-tune a model; ``--help`` lists the choices."""

import time
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb
from ft.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(config: "DictConfig") -> float | None:
    """Trains, tests the best checkpoint, writes the report, and returns the task's metric, for sweepers."""
    started = time.monotonic()  # before the imports: they are part of what the user waits for
    if config.sweep.job is not None:
        with heavy_imports():
            from ft.jobs.dispatch import run_job

        return run_job(config, started=started)
    # Nobody reads the pages of all runs of a sweep, and the next run of it is waiting.
    alone = HydraConfig.get().mode is not RunMode.MULTIRUN
    searches = HydraConfig.get().runtime.choices["sweep"]
    if alone and (searches != "grid" or config.sweep.space):
        raise UserError(f"sweep={searches} asks for many runs: add -m. (python -m ft.train -m sweep={searches})")
    with heavy_imports():
        from ft.build.autoresume import claimed
        from ft.build.run import build
        from ft.fit import fit
        from ft.inference.predictions import FOLDER as PREDICTIONS
        from ft.report import report_or_warn

    claim = None if config.resume else claimed(config)
    run = build(config, started=started, claim=claim)
    value = fit(run, started=started)
    if config.report and alone and run.trainer.is_global_zero and (run.folder.path / PREDICTIONS).is_dir():
        report_or_warn(str(run.folder.path))
    return value


if __name__ == "__main__":
    run_verb(train, "train")
