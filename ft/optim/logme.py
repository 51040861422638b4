"""LogME: how probable the targets are, given the features, for the best linear model with Gaussian noise.

    evidence(alpha, beta) = log p(y | F, alpha, beta),   weights ~ N(0, 1/alpha),   noise ~ N(0, 1/beta)

maximised over both, divided by the number of images, and averaged over the outputs. Higher is better; between backbones
only. You et al. 2021, https://arxiv.org/abs/2102.11005, equation 2; the fixed-point iteration is that of You et al.
2022, https://arxiv.org/abs/2110.10545, algorithm 3.
"""

import numpy as np

MOST_STEPS = 1000
# Relative change of alpha / beta below which the iteration has arrived.
ARRIVED = 1e-6
# Keeps a ratio finite where features say nothing, or everything, about an output.
TINY = 1e-12


def logme(features: np.ndarray, targets: np.ndarray) -> float:
    """The maximum of the evidence an image, mean over the outputs that occur.

    Args:
        features: ``(N, F)``.
        targets: ``(N, K)`` numbers, not all 0; classes as 0 and 1.
    """
    features, targets = features.astype(np.float64), targets.astype(np.float64)
    variances, explained = _directions(features, targets)
    total = np.square(targets).sum(0)
    # An output that is 0 throughout has nothing to explain, and its evidence is infinite.
    each = [
        _best_evidence(variances, explained[:, at], total[at], len(features)) for at in np.flatnonzero(total).tolist()
    ]
    return float(np.mean(each))


def _directions(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values ``(R,)`` of the features, and ``(R, K)`` squared parts of the targets along them."""
    tall = len(features) >= features.shape[1]
    values, vectors = np.linalg.eigh(features.T @ features if tall else features @ features.T)
    kept = values > max(values[-1], TINY) * 1e-12
    values, vectors = values[kept], vectors[:, kept]
    left = features @ vectors / np.sqrt(values) if tall else vectors
    return values, np.square(left.T @ targets)


def _best_evidence(variances: np.ndarray, explained: np.ndarray, total: float, count: int) -> float:
    """The maximum over ``alpha`` and ``beta``, divided by ``count``.

    Args:
        variances: ``(R,)`` squared singular values of the features.
        explained: ``(R,)`` squared parts of the target along their directions.
        total: Squared length of the target.
        count: Number of images.
    """
    outside = max(total - float(explained.sum()), 0.0)
    ratio = 1.0
    alpha = beta = length = residual = 1.0
    for _ in range(MOST_STEPS):
        # Squared length of the posterior mean's weights, and what it leaves unexplained.
        length = float((variances * explained / np.square(ratio + variances)).sum())
        residual = float((explained * np.square(ratio / (ratio + variances))).sum()) + outside
        effective = float((variances / (ratio + variances)).sum())
        alpha = max(effective, TINY) / max(length, TINY * total)
        beta = max(count - effective, TINY) / max(residual, TINY * total)
        before, ratio = ratio, alpha / beta
        if abs(ratio - before) <= ARRIVED * before:
            break
    evidence = (
        0.5 * len(variances) * np.log(alpha)
        + 0.5 * count * np.log(beta)
        - 0.5 * float(np.log(alpha + beta * variances).sum())
        - 0.5 * beta * residual
        - 0.5 * alpha * length
        - 0.5 * count * np.log(2 * np.pi)
    )
    return evidence / count
