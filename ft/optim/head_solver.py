"""The linear head that is best on frozen features, computed instead of trained; by scikit-learn, in double precision.

classes   multinomial logistic regression     penalty chosen on a fifth of the images, then solved on all
labels    one logistic regression a label     likewise
numbers   ridge regression                    penalty chosen by leave-one-out, in closed form

Features are divided by one number, their root mean square, before they are penalised: what penalty suits then depends
little on the backbone.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

# Of the mean loss plus half of it times |w|^2: strong to weak, so that each solution starts the next one.
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
RIDGE_PENALTIES = tuple(10.0**power for power in np.arange(-6, 2.01, 0.5))
KINDS = ("classes", "labels", "numbers")

Head = tuple[np.ndarray, np.ndarray]


def solve_linear_head(features: np.ndarray, targets: np.ndarray, kind: str, *, num_outputs: int) -> Head:
    """Weight ``(K, F)`` and bias ``(K,)`` of the head.

    Args:
        features: ``(N, F)``.
        targets: ``(N,)`` class numbers, ``(N, K)`` labels of 0 and 1, or ``(N, K)`` numbers.
        kind: One of ``KINDS``.
        num_outputs: ``K``.
    """
    features = features.astype(np.float64)
    scale = max(float(np.sqrt(np.mean(np.square(features)))), 1e-12)
    scaled = features / scale
    if kind == "numbers":
        weight, bias = ridge(scaled, targets)
    elif kind == "classes":
        weight, bias = multinomial(scaled, targets, num_outputs)
    else:
        each = [binary(scaled, targets[:, at]) for at in range(num_outputs)]
        weight, bias = (np.stack(parts) for parts in zip(*each, strict=True))
    return weight / scale, bias


def ridge(features: np.ndarray, targets: np.ndarray) -> Head:
    """Least squares with the penalty that predicts left-out images best.

    Args:
        features: ``(N, F)``.
        targets: ``(N, K)``.
    """
    penalties = [len(features) * penalty for penalty in RIDGE_PENALTIES]
    solution: Any = RidgeCV(alphas=penalties).fit(features, targets.astype(np.float64).reshape(len(targets), -1))
    return np.atleast_2d(solution.coef_), np.atleast_1d(solution.intercept_)


def multinomial(features: np.ndarray, targets: np.ndarray, num_classes: int) -> Head:
    """Logistic regression of ``(N,)`` class numbers, each of which occurs."""
    weight, bias = _logistic(features, targets)
    if num_classes == 2:
        # scikit-learn gives one row for two classes: the difference of their logits.
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def binary(features: np.ndarray, targets: np.ndarray) -> Head:
    """Weight ``(F,)`` and bias of one label; of a label that is always or never there, its frequency alone."""
    present = float(targets.sum())
    if present in (0, len(targets)):
        share = (present + 0.5) / (len(targets) + 1)
        return np.zeros(features.shape[1]), np.asarray(np.log(share / (1 - share)))
    weight, bias = _logistic(features, targets.astype(int))
    return weight[0], bias[0]


def _logistic(features: np.ndarray, targets: np.ndarray) -> Head:
    counts = np.bincount(targets)
    # A class of one image cannot be on both sides.
    stratify = targets if counts[counts > 0].min() > 1 and len(targets) >= 5 * len(counts) else None
    divided: Any = train_test_split(features, targets, test_size=0.2, random_state=0, stratify=stratify)
    seen, held, seen_targets, held_targets = divided
    penalty = PENALTIES[2]
    if len(np.unique(seen_targets)) == len(np.unique(targets)):
        penalty = _best_penalty(seen, seen_targets, held, held_targets)
    path = [each for each in PENALTIES if each >= penalty]
    solution: Any = list(_along(features, targets, path, tol=1e-5, max_iter=1000))[-1]
    return solution.coef_, solution.intercept_


def _best_penalty(seen: np.ndarray, seen_targets: np.ndarray, held: np.ndarray, held_targets: np.ndarray) -> float:
    losses: dict[float, float] = {}
    # Roughly solved: which penalty is best shows early.
    path = _along(seen, seen_targets, PENALTIES, tol=1e-3, max_iter=100)
    for penalty, solution in zip(PENALTIES, path, strict=True):
        losses[penalty] = log_loss(held_targets, solution.predict_proba(held), labels=solution.classes_)
        if losses[penalty] > min(losses.values()):
            break  # weaker ones overfit more, and take longer
    return min(losses, key=lambda penalty: losses[penalty])


def _along(
    features: np.ndarray, targets: np.ndarray, penalties: Sequence[float], *, tol: float, max_iter: int
) -> Iterator[LogisticRegression]:
    """The solution at each of the penalties; each starts the next one."""
    solver = LogisticRegression(warm_start=True, tol=tol, max_iter=max_iter)
    for penalty in penalties:
        solver.set_params(C=1 / (penalty * len(features)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # where the weakest leave almost nothing to decide
            yield solver.fit(features, targets)
