"""How sure a trial's value is: over its seeds where it has several, else over the validation images.

seeds      mean +- t(0.975, S - 1) * s / sqrt(S)     another training and, in part, other images
images     bootstrap of 95 % (``ft.scoring.intervals``)  other images, the same training
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from ft.job_folder import FINISHED
from ft.scoring.intervals import LEVEL, Interval, intervals
from ft.sweeps.report.material import Material, Row

SEEDS, IMAGES = "seeds", "images"
# Of one seed a trial, so many have an interval: each takes a thousand resamples.
MOST_RESAMPLED = 50
# What a candidate of ``sweep=backbones`` says itself, over the images that its head has not seen.
STANDARD_ERROR = "cv/se"
# Metrics that lie between 0 and 1, and their intervals with them.
SHARES = frozenset({"acc", "top5", "f1", "f1_tuned", "auroc", "map", "exact", "exact_tuned"})


@dataclass(frozen=True)
class Uncertainty:
    """An interval of 95 %, and whether it is over ``seeds`` or ``images``."""

    interval: Interval
    over: str


def seed_values(row: Row) -> list[float]:
    """What the sweep goes by, of each run of the trial that finished."""
    return [job["value"] for job in row["jobs"] if job["status"] == FINISHED and job["value"] is not None]


def spread(row: Row) -> float | None:
    """Standard deviation over the seeds; ``None`` of fewer than two."""
    values = seed_values(row)
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def over_seeds(values: Sequence[float], *, share: bool) -> Interval:
    """Student's interval of the mean.

    Args:
        values: At least two.
        share: Whether it ends at 0 and 1.
    """
    mean = float(np.mean(values))
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    low, high = mean - half, mean + half
    return Interval(mean, max(0.0, low), min(1.0, high)) if share else Interval(mean, low, high)


def uncertainty(material: Material, row: Row) -> Uncertainty | None:
    """How sure the value of a trial with one is; ``None`` where that cannot be said."""
    values = seed_values(row)
    if STANDARD_ERROR in row["metrics"]:
        half = float(norm.ppf((1 + LEVEL) / 2)) * row["metrics"][STANDARD_ERROR]
        return Uncertainty(Interval(row["value"], row["value"] - half, row["value"] + half), IMAGES)
    if len(values) > 1:
        return Uncertainty(over_seeds(values, share=material.measure in SHARES), SEEDS)
    for stored in material.predictions(row).values():
        # The metric of a run's summary may be one that cannot be told from predictions, such as the loss.
        if measured := intervals(stored, only=material.measure):
            return Uncertainty(measured[material.measure], IMAGES)
    return None


def uncertainties(material: Material) -> dict[int, Uncertainty]:
    """Number of a trial to how sure its value is, for the trials of which that can be said."""
    single = [row["number"] for row in material.ranked if len(seed_values(row)) < 2][:MOST_RESAMPLED]
    rows = [row for row in material.ranked if len(seed_values(row)) > 1 or row["number"] in single]
    found = {row["number"]: uncertainty(material, row) for row in rows}
    return {number: known for number, known in found.items() if known is not None}
