"""hydra-optuna-sweeper 1.3.0 around ``python -m ft.train``: its arguments, and what its runs have left behind."""

import json
from pathlib import Path
from typing import Any


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


def finished(runs: Path) -> list[dict[str, Any]]:
    """Seconds and best value of each trial that has ended, in order: it keeps no record of single trials itself."""
    files = sorted(runs.glob("*/summary.json"), key=lambda file: file.stat().st_mtime_ns)
    summaries = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.parent.name != "last"]
    return [
        {"seconds": summary["seconds"], "value": summary["val/acc"], "epochs": summary["epochs"], "state": "finished"}
        for summary in summaries
        if summary["status"] == "finished"
    ]
