"""The folder of a job: what a sweep asks of one process, and what came of it.

runs/sweeps/NAME/jobs/KEY/   job.json       what is asked; written by the sweep before the job begins
                             config.yaml    the job's config, composed and resolved; KEY is its hash
                             result.json    what came of it; written by the job, last of all
                             failure_N.json what came of an attempt that was followed by another
                             output.txt     what it printed
                             traceback.txt  of its last failure

A job without ``result.json`` has not ended: it was never begun, or it was killed and goes on from its last checkpoint.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ft.errors import UserError
from ft.plain_files import read_json
from ft.run_folder import write_whole

# What can come of a job.
FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"

# What changes nothing of what a run computes.
NOT_OF_A_JOB = ("runs_dir", "resume", "autoresume", "report", "sweep", "launcher", "logger")
KEY_LENGTH = 12


def key_of(config: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> str:
    """The name of a job: the same for the same computation.

    Args:
        config: Resolved.
        settings: What else a job is told, where it is not a training run.
    """
    told = {name: value for name, value in config.items() if name not in NOT_OF_A_JOB}
    text = json.dumps([told, dict(settings or {})], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class Job:
    """What is asked.

    Attributes:
        kind: ``run`` (one training run), ``heads`` (many heads on the same features), ``backbone`` (features and what a
            head makes of them), ``soup`` (an average of runs).
        key: Hash of the config.
        run: Folder of the training run, absolute; empty where a kind has none.
        overrides: Of the command line, without those of the sweep.
        trial: For pruning: what ``ft.jobs.pruning`` needs to reach the study; empty without.
        settings: What else the kind needs.
    """

    kind: str
    key: str
    run: str = ""
    overrides: tuple[str, ...] = ()
    trial: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        status: ``finished``, ``pruned`` or ``failed``.
        why: Of a failure: ``mistake`` (a user's), ``raised``, ``out of memory``, ``not a number``, ``killed``.
        message: One to three lines for people.
        value: The task's metric of the best checkpoint.
        metrics: Everything of the run's summary that is a number.
        seconds: Of all attempts, those before included.
        attempts: How often it was begun anew after a failure, the first included.
        together: How many jobs were computed in the same go; 1 for one alone.
        shared_seconds: What a job that shares work with others was spared, as far as it was measured.
    """

    status: str
    why: str = ""
    message: str = ""
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 1
    together: int = 1
    shared_seconds: float = 0.0


class JobFolder:
    """Paths of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def output(self) -> Path:
        return self.path / "output.txt"

    @property
    def traceback(self) -> Path:
        return self.path / "traceback.txt"

    def ask(self, job: Job, config_yaml: str) -> None:
        """Writes what is asked; a job that was asked before keeps what came of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.config, config_yaml)
        write_whole(self.path / "job.json", json.dumps(asdict(job), indent=2) + "\n")

    def job(self) -> Job:
        """What is asked."""
        file = self.path / "job.json"
        content = read_json(file)
        try:
            return Job(**{**content, "overrides": tuple(content["overrides"])})
        except (KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged: {error}.") from None

    def answer(self, result: Result) -> None:
        """Writes what came of it; attempts that failed before count too."""
        earlier = [_result(file) for file in self._failures()]
        seconds = round(result.seconds + sum(each.seconds for each in earlier), 2)
        counted = replace(result, attempts=len(earlier) + 1, seconds=seconds)
        write_whole(self.path / "result.json", json.dumps(asdict(counted), indent=2) + "\n")

    def result(self) -> Result | None:
        """What came of it; ``None`` while it has not ended."""
        file = self.path / "result.json"
        return _result(file) if file.is_file() else None

    def try_again(self) -> None:
        """Puts the result of a failed attempt aside."""
        (self.path / "result.json").replace(self.path / f"failure_{len(self._failures()) + 1}.json")

    def _failures(self) -> list[Path]:
        return sorted(self.path.glob("failure_*.json"))


def _result(file: Path) -> Result:
    content = read_json(file)
    try:
        return Result(**content)
    except TypeError as error:
        raise UserError(f"{file} is damaged: {error}.") from None
