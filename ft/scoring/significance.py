"""p-values: of resampled differences, of discordant images, and of several pairs at once."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

# Below it, a difference is called real.
ALPHA = 0.05


def two_sided_p(moved: np.ndarray) -> float:
    """From the differences in resamples ``(R,)``: twice the share on the rarer side of zero; zeros are on both.

    One is added to both counts, so that a finite number of resamples never says 0 (Davison & Hinkley 1997, section
    4.2.3).
    """
    known = moved[~np.isnan(moved)]
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(known) + 1)))


def mcnemar_p(first_only: int, second_only: int) -> float:
    """Exact and two-sided: whether the images that only one of two gets right are as many each way."""
    discordant = first_only + second_only
    return float(binomtest(first_only, discordant).pvalue) if discordant else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Each p-value, corrected for their number, so that below 0.05 all that are told differ with 95 %.

    Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1)
    return corrected.tolist()
