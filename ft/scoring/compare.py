"""Is one run better than another, or does it only look so on these images?

    the same resamples for all runs  ->  difference of the metric in each  ->  interval, and how often its sign turns

Paired bootstrap: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 16. Exact McNemar test, for
classes: of the images that only one of the two gets right, as many each way? McNemar 1947; recommended for classifiers
by Dietterich 1998, https://doi.org/10.1162/089976698300017197. Several pairs: Holm 1979.

One training each: a difference that is real on these images may still be one of the seeds of the two trainings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import norm

from ft.errors import UserError, one_of
from ft.inference.predictions import Predictions
from ft.scoring.intervals import Interval, affordable, draws, interval_of, percentiles
from ft.scoring.metrics import LOWER_IS_BETTER, RANKED, metrics_of
from ft.scoring.significance import ALPHA, holm, mcnemar_p, two_sided_p

# Share of new test sets on which a difference of the observed size would be told.
POWER = 0.8


@dataclass(frozen=True)
class Scored:
    """A run and its metric."""

    run: str
    metric: Interval


@dataclass(frozen=True)
class McNemar:
    """Images that only the first run of a pair gets right, those that only the second does, and the p-values."""

    first_only: int
    second_only: int
    p: float
    p_holm: float


@dataclass(frozen=True)
class Pair:
    """Two runs.

    Attributes:
        first: The one with the better value.
        second: The other.
        difference: The first's metric minus the second's, with its interval of 95 %.
        p: Of the paired bootstrap, two-sided.
        p_holm: Corrected for the number of pairs; below 0.05 the runs differ.
        mcnemar: ``None`` but for classification.
        images_needed: Roughly, for a difference of this size to be told from none on 4 of 5 test sets; ``None`` where
            it is told, or is zero.
    """

    first: str
    second: str
    difference: Interval
    p: float
    p_holm: float
    mcnemar: McNemar | None
    images_needed: int | None

    @property
    def differs(self) -> bool:
        return self.p_holm < ALPHA

    @property
    def verdict(self) -> str:
        """In words."""
        if self.differs:
            return f"{self.first} is better than {self.second}"
        needed = "" if self.images_needed is None else f" (about {self.images_needed:,} test images would be needed)"
        return f"{self.first} and {self.second} are not distinguishable{needed}"


@dataclass(frozen=True)
class Comparison:
    """All runs, the best first, and all pairs of them in that order."""

    split: str
    metric: str
    num_images: int
    resamples: int
    seed: int
    runs: tuple[Scored, ...]
    pairs: tuple[Pair, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        pairs = [{**asdict(pair), "differs": pair.differs, "verdict": pair.verdict} for pair in self.pairs]
        return {**asdict(self), "runs": [asdict(run) for run in self.runs], "pairs": pairs}


def compare_runs(runs: Mapping[str, Predictions], *, metric: str, seed: int, resamples: int) -> Comparison:
    """Compares each run with each other.

    Args:
        runs: From ``match``: the same images in the same order.
        metric: One of ``metrics_of``.
        seed: Of the draws.
        resamples: How many; fewer of ``auroc`` and ``map`` on large splits.

    Raises:
        UserError: The metric is not one of the task's, or has no value on these images.
    """
    some = next(iter(runs.values()))
    functions = {name: metrics_of(predictions) for name, predictions in runs.items()}
    one_of(metric, functions[next(iter(runs))], "metric")
    resamples = affordable(some, resamples) if metric in RANKED else resamples
    values = {name: float(each[metric](np.ones((len(some), 1)))[0]) for name, each in functions.items()}
    if undefined := [name for name, value in values.items() if not np.isfinite(value)]:
        raise UserError(f"metric={metric} has no value on these images in {', '.join(undefined)}; choose another.")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in runs}
    for weights in draws(len(some), resamples, np.random.default_rng(seed)):
        for name, each in functions.items():
            parts[name].append(each[metric](weights))
    drawn = {name: np.concatenate(found) for name, found in parts.items()}
    sign = -1 if metric in LOWER_IS_BETTER else 1
    ranked = sorted(runs, key=lambda name: -sign * values[name])
    scored = [Scored(name, interval_of(metric, values[name], drawn[name], len(some))) for name in ranked]
    return Comparison(
        some.split, metric, len(some), resamples, seed, tuple(scored), _pairs(ranked, runs, values, drawn)
    )


def _pairs(
    ranked: Sequence[str],
    runs: Mapping[str, Predictions],
    values: Mapping[str, float],
    drawn: Mapping[str, np.ndarray],
) -> tuple[Pair, ...]:
    chosen = list(combinations(ranked, 2))
    moved = [drawn[one] - drawn[two] for one, two in chosen]
    p = [two_sided_p(each) for each in moved]
    mcnemar = [discordant(runs[one], runs[two]) for one, two in chosen]
    exact = [1.0 if counts is None else mcnemar_p(*counts) for counts in mcnemar]
    pairs: list[Pair] = []
    for at, (one, two) in enumerate(chosen):
        difference = values[one] - values[two]
        counts, p_holm = mcnemar[at], holm(p)[at]
        needed = _images_needed(difference, moved[at], len(runs[one]), len(chosen)) if p_holm >= ALPHA else None
        pairs.append(
            Pair(
                one,
                two,
                Interval(difference, *percentiles(moved[at])),
                p[at],
                p_holm,
                None if counts is None else McNemar(*counts, exact[at], holm(exact)[at]),
                needed,
            )
        )
    return tuple(pairs)


def discordant(one: Predictions, two: Predictions) -> tuple[int, int] | None:
    """Images that only the first gets right, and that only the second does; ``None`` but for classification."""
    if one.reading.task != "classification":
        return None
    first, second = ((each.told.argmax(1) == each.targets) for each in (one, two))
    return int((first & ~second).sum()), int((second & ~first).sum())


def _images_needed(difference: float, moved: np.ndarray, num_images: int, num_pairs: int) -> int | None:
    """By the normal approximation, at Bonferroni's level: the standard error falls with the root of the images."""
    error = float(np.nanstd(moved))
    if not difference or not error:
        return None
    quantiles = norm.ppf(1 - ALPHA / 2 / num_pairs) + norm.ppf(POWER)
    needed = num_images * (quantiles * error / difference) ** 2
    # Two digits: it is no better known than that.
    digits = 10 ** max(0, len(str(int(needed))) - 2)
    return int(np.ceil(needed / digits)) * digits
