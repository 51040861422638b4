"""A trial: one point of the search space, run once for each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from ft.job_folder import FAILED, FINISHED, PRUNED, JobFolder, Result

RUNNING, INTERRUPTED = "running", "interrupted"


@dataclass
class SeedRun:
    """One run of a trial.

    Attributes:
        seed: Of everything random in it.
        config: Composed and resolved.
        overrides: That compose it, without the sweep's own.
        folder: Of its job.
        run: Its run folder, relative to the sweep's.
        metric: What its value is, of those that a run returns; empty: the task's.
    """

    seed: int
    config: Mapping[str, Any]
    overrides: Sequence[str]
    folder: JobFolder
    run: str
    metric: str = ""

    @property
    def key(self) -> str:
        return self.folder.path.name

    @property
    def value(self) -> float | None:
        """What the sweep goes by; of a run that has not ended, or failed, nothing."""
        result = self.folder.result()
        if result is None:
            return None
        return result.metrics.get(self.metric) if self.metric else result.value

    def row(self) -> dict[str, Any]:
        """For ``trials.json``; a run that has not ended has no status."""
        result = self.folder.result()
        ended = {**asdict(result), "value": self.value} if result else {"status": ""}
        return {"key": self.key, "seed": self.seed, "run": self.run, **ended}


@dataclass
class Trial:
    """What is tried, and what came of it.

    Attributes:
        number: From 0.
        params: Config keys and their values.
        told: What a run needs to reach the study, for pruning; empty without.
        runs: One a seed, in order.
        screened: Its runs are cheaper than what was asked: they only tell whether it is worth those.
        before: Runs that have told so of a finalist.
        interrupted: It was, by Ctrl-C.
    """

    number: int
    params: Mapping[str, Any]
    told: Mapping[str, Any] = field(default_factory=dict)
    runs: list[SeedRun] = field(default_factory=list)
    screened: bool = False
    before: Sequence[SeedRun] = ()
    interrupted: bool = False

    @property
    def begun(self) -> bool:
        """Whether any of its runs was asked for."""
        return bool(self.before) or any((run.folder.path / "job.json").is_file() for run in self.runs)

    def results(self) -> list[Result]:
        """Of the runs that have ended."""
        return _results(self.runs)

    def go_on(self, runs: list[SeedRun]) -> None:
        """Becomes a finalist, with the runs that were asked for."""
        self.before, self.runs, self.told, self.screened, self.interrupted = self.runs, runs, {}, False, False

    @property
    def state(self) -> str:
        """What came of it; one that was only screened is as good as pruned, since its value is not comparable."""
        return PRUNED if self.screened and self.outcome == FINISHED else self.outcome

    @property
    def outcome(self) -> str:
        """What came of its runs; one that fails or is pruned ends the trial."""
        results = self.results()
        statuses = {result.status for result in results}
        if FAILED in statuses:
            return FAILED
        if PRUNED in statuses:
            return PRUNED
        if len(results) == len(self.runs):
            return FINISHED
        return INTERRUPTED if self.interrupted else RUNNING

    @property
    def value(self) -> float | None:
        """Mean of what the sweep goes by over the seeds that have ended well; of a pruned trial, as far as it came."""
        values = [value for run in self.runs if (value := run.value) is not None]
        return fmean(values) if values and self.state != FAILED else None

    @property
    def screening(self) -> float | None:
        """Mean of the values that it was screened with; of a sweep without, nothing."""
        runs = self.runs if self.screened else self.before
        values = [value for run in runs if (value := run.value) is not None]
        return fmean(values) if values else None

    def metrics(self) -> dict[str, float]:
        """Mean over the seeds of whatever all of them have."""
        results = [result.metrics for result in self.results() if result.status != FAILED]
        names = [name for name in results[0] if all(name in each for each in results)] if results else []
        return {name: fmean(each[name] for each in results) for name in names}

    def row(self) -> dict[str, Any]:
        """For ``trials.json``."""
        return {
            "number": self.number,
            "params": dict(self.params),
            "state": self.state,
            "value": self.value,
            "screened": self.screening,
            "metrics": self.metrics(),
            "jobs": [run.row() for run in self.runs],
            "seconds": round(sum(result.seconds for result in _results([*self.before, *self.runs])), 2),
        }


def _results(runs: Sequence[SeedRun]) -> list[Result]:
    return [result for run in runs if (result := run.folder.result()) is not None]
