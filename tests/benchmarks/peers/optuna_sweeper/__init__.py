"""hydra-optuna-sweeper 1.3.0 around ``python -m ft.train``: its arguments, and what its runs have left behind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def arguments(*, trials: int, seed: int, record: Path) -> list[str]:
    """Of the command line: its TPE as it comes, one trial after the other.

    Args:
        trials: How many.
        seed: Of the sampler.
        record: Folder for what it writes itself.
    """
    return [
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=tpe",
        "hydra.sweeper.direction=maximize",
        f"hydra.sweeper.n_trials={trials}",
        "hydra.sweeper.n_jobs=1",
        f"hydra.sweeper.sampler.seed={seed}",
        f"hydra.sweep.dir='{record}'",
    ]


def finished(runs: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Values of ``keys``, seconds and best value of each trial that has ended, in order: its own files have none."""
    files = sorted(runs.glob("*/summary.json"), key=lambda file: file.stat().st_mtime_ns)
    found = [
        (file.parent, json.loads(file.read_text(encoding="utf-8"))) for file in files if file.parent.name != "last"
    ]
    return [
        {
            "params": _values(OmegaConf.load(run / "config.yaml"), keys),
            "seconds": summary["seconds"],
            "value": summary["val/acc"],
            "epochs": summary["epochs"],
            "state": "finished",
        }
        for run, summary in found
        if summary["status"] == "finished"
    ]


def _values(config: Any, keys: Sequence[str]) -> dict[str, Any]:
    return {key: OmegaConf.select(config, key) for key in keys}
