"""How sure a metric is: bootstrap intervals of 95 % over the images of a split.

    draw N images with replacement, compute the metric, 1,000 times  ->  2.5th and 97.5th percentile

Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 13.3. They say how much a metric would move with
other test images of the same kind; not how much with another seed of the training, nor with other kinds of images.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest

from ft.errors import require
from ft.inference.predictions import Predictions
from ft.scoring.metrics import PROPORTIONS, RANKED, metrics_of

LEVEL = 0.95
# Weights drawn at a time, 8 bytes each; part of what a seed means.
CHUNK = 2**20
# Sorted metrics take images x classes x resamples steps, about 10 ns each: at most 5 s, and not below 100 resamples.
RANKED_STEPS, FEWEST = 5 * 10**8, 100


def check_draws(seed: int, resamples: int) -> None:
    """Refuses values of the config that no draw can be made with.

    Raises:
        UserError: The seed is negative, or the resamples are too few for an interval of 95 %.
    """
    require(seed >= 0, "seed", "must be at least 0", seed)
    require(resamples >= FEWEST, "resamples", f"must be at least {FEWEST}", resamples)


@dataclass(frozen=True)
class Interval:
    """A metric and the ends of its interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)


def intervals(
    predictions: Predictions,
    *,
    seed: int | np.random.Generator = 0,
    resamples: int = 1000,
    only: str | None = None,
) -> dict[str, Interval]:
    """Every metric of ``metrics_of`` that has a value on these images, with its interval.

    All metrics see the same resamples. ``auroc`` and ``map`` see the first of them only where images x classes x
    resamples exceed ``RANKED_STEPS``. Two intervals are not plain percentiles: of a share that is 0 or 1 every resample
    agrees, so that Wilson's interval takes its place; and see ``without_noise`` for ``ece``.

    Args:
        predictions: Of one split.
        seed: Of the draws, or their generator.
        resamples: How many.
        only: The one metric that is wanted.
    """
    num_images = len(predictions)
    metrics = {name: metric for name, metric in metrics_of(predictions).items() if only in (None, name)}
    values = {name: float(metric(np.ones((num_images, 1)))[0]) for name, metric in metrics.items()}
    metrics = {name: metric for name, metric in metrics.items() if np.isfinite(values[name])}
    few = affordable(predictions, resamples)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    seen = 0
    for weights in draws(num_images, resamples, np.random.default_rng(seed)):
        for name, metric in metrics.items():
            part = weights[:, : max(0, few - seen)] if name in RANKED else weights
            if part.shape[1]:
                drawn[name].append(metric(part))
        seen += weights.shape[1]
    return {name: interval_of(name, values[name], np.concatenate(found), num_images) for name, found in drawn.items()}


def interval_of(name: str, value: float, found: np.ndarray, num_images: int) -> Interval:
    """From a metric's value, and its values in resamples ``(R,)``."""
    if name in PROPORTIONS and value in (0, 1):
        return Interval(value, *wilson(round(value * num_images), num_images))
    low, high = percentiles(found)
    if name == "ece":
        low, high = without_noise(low, high, bias=max(0.0, float(found.mean()) - value))
    return Interval(value, low, high)


def without_noise(low: float, high: float, *, bias: float) -> tuple[float, float]:
    """The interval of an error that noise makes larger, and that a resample, which has the noise twice, overstates.

    The resamples lie too high by ``bias`` against the value, and the value itself by up to twice that against the
    truth, so the upper end comes down by one and the lower by three. Of simulated models of 400 to 4,000 images whose
    true error is 0.01 to 0.08, 94 to 96 % are then covered, and 82 to 92 % of those that have none; plain percentiles
    cover 0 to 94 %.
    """
    return max(0.0, low - 3 * bias), max(0.0, high - bias)


def affordable(predictions: Predictions, resamples: int) -> int:
    """How many of the resamples a metric of ``RANKED`` can be computed for in a few seconds."""
    return min(resamples, max(FEWEST, RANKED_STEPS // predictions.logits.numel()))


def draws(num_images: int, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Bootstrap draws as weights ``(N, R)``: how often each image was drawn; several parts, ``resamples`` in all."""
    at_once = max(1, CHUNK // num_images)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        places = generator.integers(num_images, size=(num_images, count)) * count + np.arange(count)
        yield np.bincount(places.ravel(), minlength=num_images * count).reshape(num_images, count).astype(float)


def percentiles(found: np.ndarray) -> tuple[float, float]:
    """Both ends, of the resamples in which the metric has a value."""
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's score interval of a share: Wilson 1927; recommended by Brown, Cai & DasGupta 2001 for small counts."""
    if not count:
        return 0.0, 1.0
    found = binomtest(hits, count).proportion_ci(LEVEL, "wilson")
    return float(found.low), float(found.high)
