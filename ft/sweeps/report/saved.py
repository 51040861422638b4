"""What was not computed: jobs shared it, hopeless runs were ended or only screened, or it was there already."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from ft.job_folder import FINISHED, PRUNED
from ft.page.words import duration_in_words
from ft.sweeps.report.material import Material


@dataclass(frozen=True)
class Saved:
    """Seconds, and how."""

    title: str
    seconds: float
    how: str


def saved(material: Material) -> list[Saved]:
    """By each of the ways that saved anything."""
    jobs = [job for row in material.rows for job in row["jobs"] if job["status"]]
    found = [_by_sharing(jobs), _by_pruning(material), _by_screening(material), _by_repeats(jobs)]
    return [each for each in found if each is not None]


def _by_sharing(jobs: list[Mapping[str, Any]]) -> Saved | None:
    # A job that two trials have in common was computed, and spared its share, once.
    own = {job["key"]: job for job in jobs}.values()
    together = sum(job["together"] > 1 for job in own)
    seconds = sum(job["shared_seconds"] for job in own)
    forked = sum(job["shared_seconds"] > 0 and job["together"] <= 1 for job in own)
    if not seconds and not together:
        return None
    parts = [f"{together} runs were computed together with others"] if together else []
    parts += [f"{forked} went on from what others had computed"] if forked else []
    return Saved("sharing", seconds, "; ".join(parts) or "as measured")


def _by_pruning(material: Material) -> Saved | None:
    """Epochs that were not trained, at the pruned run's own pace; as long as the finished runs took in the median."""
    lengths = [
        len(material.history(job).epochs) for row in material.rows for job in row["jobs"] if job["status"] == FINISHED
    ]
    pruned = [job for row in material.rows for job in row["jobs"] if job["status"] == PRUNED]
    if not pruned or not any(lengths):
        return None
    usual = median(length for length in lengths if length)
    epochs, seconds = 0.0, 0.0
    for job in pruned:
        trained = len(material.history(job).epochs)
        missing = max(0.0, usual - trained)
        epochs += missing
        seconds += missing * job["seconds"] / max(1, trained)
    runs = f"{len(pruned)} run{'s' * (len(pruned) > 1)}"
    return Saved("pruning", seconds, f"{runs} ended early: about {epochs:.0f} epochs were not trained")


def _by_screening(material: Material) -> Saved | None:
    """Whole runs that were not made, as long as the finalists' in the median; without what all of screening took."""
    screened = [row for row in material.rows if row.get("screened") is not None]
    whole = [sum(job["seconds"] for job in row["jobs"]) for row in screened if row["state"] == FINISHED]
    out = [row for row in screened if row["state"] == PRUNED]
    if not whole or not out:
        return None
    screening = sum(row["seconds"] for row in screened) - sum(whole)
    seconds = len(out) * median(whole) - screening
    if seconds <= 0:
        return None
    return Saved("screening", seconds, f"{len(out)} of {len(screened)} trials were not run as asked")


def _by_repeats(jobs: list[Mapping[str, Any]]) -> Saved | None:
    """The same run in several trials is computed once."""
    counts = Counter(job["key"] for job in jobs)
    repeated = {job["key"]: job["seconds"] * (counts[job["key"]] - 1) for job in jobs if counts[job["key"]] > 1}
    if not repeated:
        return None
    times = sum(counts[key] - 1 for key in repeated)
    return Saved("skipping", sum(repeated.values()), f"{times} times a run that had finished already was asked for")


def total(found: list[Saved]) -> str:
    """All of it, in words."""
    return duration_in_words(sum(each.seconds for each in found))
