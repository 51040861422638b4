"""Is the best trial really better than the next ones, or does it only look so on these images and with these seeds?

    one seed, accuracy     McNemar's exact test on the validation images
    one seed, else         paired bootstrap over the images
    S seeds                t test of the mean difference: its variance is that over the images (paired bootstrap of the
                           mean over the seeds) and that over the seeds, s^2 / S; degrees of freedom of Satterthwaite
    all comparisons        Holm 1979

Satterthwaite 1946, An Approximate Distribution of Estimates of Variance Components. A noise that is of one image and
one seed is in both variances, so that the test errs to the side of telling no difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from ft.errors import UserError
from ft.inference.predictions import Predictions
from ft.scoring.compare import discordant
from ft.scoring.intervals import LEVEL, Interval, affordable, draws, percentiles
from ft.scoring.matching import match
from ft.scoring.metrics import RANKED, metrics_of
from ft.scoring.significance import ALPHA, holm, mcnemar_p, two_sided_p
from ft.sweeps.report.material import Material, Row

# The best one is compared with so many: each further comparison makes all of them less sharp.
MOST_RIVALS = 9
RESAMPLES = 1000
MCNEMAR, BOOTSTRAP, BOTH, SEEDS = "McNemar, exact", "paired bootstrap", "images and seeds", "seeds alone"


@dataclass(frozen=True)
class Rival:
    """The best trial against another.

    Attributes:
        row: The other one.
        difference: How far the best one is ahead, with its interval of 95 %; ``None`` where nothing can be compared.
        test: Which one.
        p: Two-sided.
        p_holm: Corrected for the number of comparisons.
        num_images: That both were scored on; 0 where only the seeds speak.
        why_not: Why they cannot be compared.
    """

    row: Row
    difference: Interval | None
    test: str = ""
    p: float = 1.0
    p_holm: float = 1.0
    num_images: int = 0
    why_not: str = ""

    @property
    def differs(self) -> bool:
        return self.difference is not None and self.p_holm < ALPHA and self.difference.value > 0


def rivals(material: Material) -> list[Rival]:
    """The best trial against each of the next ones; empty where there are not two, and of backbones, which tell it
    themselves.
    """
    if len(material.ranked) < 2 or material.is_of_backbones:
        return []
    best, *others = material.ranked[: MOST_RIVALS + 1]
    of_best = material.predictions(best)
    found = [_against(material, best, of_best, other) for other in others]
    compared = [rival for rival in found if rival.difference is not None]
    corrected = iter(holm([rival.p for rival in compared]) if compared else ())
    return [rival if rival.difference is None else replace(rival, p_holm=next(corrected)) for rival in found]


def _against(material: Material, best: Row, of_best: Mapping[int, Predictions], other: Row) -> Rival:
    # What is ahead has more of the metric, or less where lower is better.
    order = (best, other) if material.mode == "max" else (other, best)
    of_other = material.predictions(other)
    seeds = sorted(set(of_best) & set(of_other))
    known = bool(seeds) and material.measure in metrics_of(of_best[seeds[0]])
    if not known:
        by_seed = _differences(*order)
        if len(by_seed) < 2:
            return Rival(other, None, why_not=_why_not(material, seeds))
        return Rival(other, *_by_variance(by_seed, over_images=0.0, num_images=1), num_images=0)
    try:
        ordered = match(
            {f"trial {row['number']}, seed {seed}": stored[seed] for seed in seeds
             for row, stored in ((best, of_best), (other, of_other))},
            {f"trial {row['number']}, seed {seed}": {} for seed in seeds for row in (best, other)},
        )  # fmt: skip
    except UserError as error:
        return Rival(other, None, why_not=str(error).splitlines()[0].removeprefix("runs: "))
    pairs = [tuple(ordered[f"trial {row['number']}, seed {seed}"] for row in order) for seed in seeds]
    observed, moved = _observed(pairs, material.measure), _moved(pairs, material.measure)
    num_images = len(pairs[0][0])
    if len(seeds) > 1:
        tested = _by_variance(observed, over_images=float(np.nanvar(moved)), num_images=num_images)
        return Rival(other, *tested, num_images=num_images)
    difference = Interval(observed[0], *percentiles(moved))
    counts = discordant(*pairs[0]) if material.measure == "acc" else None
    if counts is None:
        return Rival(other, difference, BOOTSTRAP, two_sided_p(moved), num_images=num_images)
    return Rival(other, difference, MCNEMAR, mcnemar_p(*counts), num_images=num_images)


def _differences(best: Row, other: Row) -> list[float]:
    """Of the values, one for each seed that both have."""
    first, second = (
        {job["seed"]: job["value"] for job in row["jobs"] if job["value"] is not None} for row in (best, other)
    )
    return [first[seed] - second[seed] for seed in first if seed in second]


def _observed(pairs: Sequence[tuple[Predictions, ...]], measure: str) -> list[float]:
    """The differences themselves, one a seed, of what is stored: that is what the test is about."""
    values = [[float(metrics_of(each)[measure](np.ones((len(each), 1)))[0]) for each in pair] for pair in pairs]
    return [first - second for first, second in values]


def _moved(pairs: Sequence[tuple[Predictions, ...]], measure: str) -> np.ndarray:
    """``(R,)``: the mean difference over the seeds, in each resample of the images."""
    some = pairs[0][0]
    functions = [[metrics_of(each)[measure] for each in pair] for pair in pairs]
    resamples = affordable(some, RESAMPLES) // len(pairs) + 1 if measure in RANKED else RESAMPLES
    parts = [
        np.mean([first(weights) - second(weights) for first, second in functions], axis=0)
        for weights in draws(len(some), resamples, np.random.default_rng(0))
    ]
    return np.concatenate(parts)


def _by_variance(differences: Sequence[float], *, over_images: float, num_images: int) -> tuple[Interval, str, float]:
    """The difference with its interval, the name of the test, and its p-value.

    Args:
        differences: One a seed, at least two.
        over_images: Variance of their mean over the images; 0 where it is not known.
        num_images: Those it is over.
    """
    values = np.array(differences)
    mean, over_seeds = float(values.mean()), float(values.var(ddof=1) / len(values))
    variance = over_images + over_seeds
    name = BOTH if over_images else SEEDS
    if not variance:
        return Interval(mean, mean, mean), name, 1.0 if mean == 0 else 0.0
    free = variance**2 / (over_seeds**2 / (len(values) - 1) + over_images**2 / max(1, num_images - 1))
    half = float(student.ppf((1 + LEVEL) / 2, free)) * variance**0.5
    return Interval(mean, mean - half, mean + half), name, float(2 * student.sf(abs(mean) / variance**0.5, free))


def _why_not(material: Material, seeds: Sequence[int]) -> str:
    if not seeds:
        return "no stored predictions of the same seed"
    return f"{material.measure} cannot be computed from stored predictions, and one seed alone says nothing"
