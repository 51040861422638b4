"""What is known of the candidates of ``sweep=backbones`` while they are looked at, and what is asked of the sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np

from ft.errors import UserError
from ft.job_folder import FAILED, FINISHED, JobFolder, Result
from ft.sweeps.backbones.candidates import Candidate

# As ft.jobs.backbone calls it.
HELD_OUT = "held_out.npz"
FIRST, SECOND = 1, 2


class Driver(Protocol):
    """What a sweep does for a method."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The composed section ``sweep``."""
        ...

    @property
    def path(self) -> Path:
        """The sweep's folder."""
        ...

    def compose(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        """The resolved config of a job with these overrides on top of what the user has fixed."""
        ...

    def ask(self, kind: str, overrides: Sequence[str], settings: Mapping[str, Any]) -> JobFolder:
        """Makes the folder of a job; the same question is the same folder."""
        ...

    def run(self, folders: Sequence[JobFolder]) -> list[Result]:
        """Has those done that have no result, in this order; returns all results."""
        ...

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """Writes ``trials.json`` and shows it."""
        ...


@dataclass(frozen=True)
class Look:
    """What came of one look at a candidate.

    Attributes:
        stage: ``FIRST`` or ``SECOND``.
        folder: Of its job.
        result: Of its job.
    """

    stage: int
    folder: JobFolder
    result: Result

    @property
    def value(self) -> float:
        assert self.result.value is not None
        return self.result.value


@dataclass(frozen=True)
class Seen:
    """A candidate with all looks that were taken at it.

    Attributes:
        number: Its place in the list.
        candidate: The candidate.
        looks: In order; empty before the first.
        milliseconds: An image, at its own resolution.
    """

    number: int
    candidate: Candidate
    looks: tuple[Look, ...] = ()
    milliseconds: float | None = None

    @property
    def last(self) -> Look:
        return self.looks[-1]

    @property
    def finished(self) -> bool:
        return bool(self.looks) and self.last.result.status == FINISHED

    @property
    def cost(self) -> float:
        """Milliseconds, if they could be measured; parameters otherwise."""
        return self.last.result.metrics["parameters"] if self.milliseconds is None else self.milliseconds


def difference_error(one: JobFolder, other: JobFolder) -> float:
    """Standard error of the difference of two candidates' metrics.

    Paired where both predicted the same images, as they do unless files changed in between.
    """
    a, b = (_held_out(job.path / HELD_OUT) for job in (one, other))
    if np.array_equal(a["rows"], b["rows"]):
        return float((a["bootstraps"] - b["bootstraps"]).std(ddof=1))
    return float(np.hypot(a["bootstraps"].std(ddof=1), b["bootstraps"].std(ddof=1)))


def _held_out(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("rows", "bootstraps")}
    # A file of one array is no context, and no mapping either.
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, IndexError, BadZipFile) as error:
        raise UserError(f"{file} is damaged: {error}. Remove its folder, and run the sweep again.") from None


def row(seen: Seen, *, chosen: bool = False) -> dict[str, Any]:
    """Of ``trials.json``."""
    # The last look alone: several jobs of a trial are its seeds, whose spread is an error, and looks are no seeds.
    jobs = [
        {
            "key": look.folder.path.name,
            "seed": 0,
            "run": "",
            "status": look.result.status,
            "why": look.result.why,
            "message": look.result.message,
            "value": look.result.value,
            "metrics": dict(look.result.metrics),
            "seconds": look.result.seconds,
            "attempts": look.result.attempts,
            "together": look.result.together,
            "shared_seconds": look.result.shared_seconds,
        }
        for look in seen.looks[-1:]
    ]
    metrics = dict(seen.last.result.metrics) | {"stage": seen.last.stage} if seen.finished else {}
    if metrics and seen.milliseconds is not None:
        metrics["ms_per_image"] = seen.milliseconds
    return {
        "number": seen.number,
        "params": seen.candidate.params,
        "state": (FINISHED if seen.finished else FAILED) if seen.looks else "running",
        "value": seen.last.value if seen.finished else None,
        "metrics": metrics,
        "jobs": jobs,
        "seconds": round(sum(look.result.seconds for look in seen.looks), 2),
        "chosen": chosen,
    }
