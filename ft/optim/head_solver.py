"""The linear head that is best on frozen features, computed instead of trained; in double precision.

classes   multinomial logistic regression     penalty chosen on a fifth of the images, then solved on all
labels    one logistic regression a label     likewise
numbers   ridge regression                    penalty chosen by leave-one-out, in closed form

Features are divided by one number, their root mean square, before they are penalised: what penalty suits then depends
little on the backbone.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

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
    # Here and below: a run that solves no head, or none of this kind, does not wait for scikit-learn's import.
    from sklearn.linear_model import RidgeCV

    solution: Any = RidgeCV(alphas=penalties).fit(features, targets.astype(np.float64).reshape(len(targets), -1))
    return np.atleast_2d(solution.coef_), np.atleast_1d(solution.intercept_)


def multinomial(features: np.ndarray, targets: np.ndarray, num_classes: int) -> Head:
    """Logistic regression of ``(N,)`` class numbers, each of which occurs."""
    weight, bias = _logistic(features, targets, num_classes)
    if num_classes == 2:
        # One row for two classes: the difference of their logits.
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def binary(features: np.ndarray, targets: np.ndarray) -> Head:
    """Weight ``(F,)`` and bias of one label; of a label that is always or never there, its frequency alone."""
    present = float(targets.sum())
    if present in (0, len(targets)):
        share = (present + 0.5) / (len(targets) + 1)
        return np.zeros(features.shape[1]), np.asarray(np.log(share / (1 - share)))
    weight, bias = _logistic(features, targets.astype(int), 2)
    return weight[0], bias[0]


def _logistic(features: np.ndarray, targets: np.ndarray, num_classes: int) -> Head:
    counts = np.bincount(targets, minlength=num_classes)
    # A class of one image cannot be on both sides.
    stratify = targets if counts[counts > 0].min() > 1 and len(targets) >= 5 * len(counts) else None
    from sklearn.model_selection import train_test_split

    divided: Any = train_test_split(np.arange(len(targets)), targets, test_size=0.2, random_state=0, stratify=stratify)
    seen, held, seen_targets, held_targets = divided
    penalty = PENALTIES[2]
    path = LogisticPath(features, num_classes)
    if len(np.unique(seen_targets)) == len(np.unique(targets)):
        losses: dict[float, float] = {}
        start = None
        for each in PENALTIES:
            # Roughly solved: which penalty is best shows early.
            start = path.solve(seen, seen_targets, each, start=start, tol=1e-3)
            losses[each] = path.loss(held, held_targets, start)
            if losses[each] > min(losses.values()):
                break  # weaker ones overfit more, and take longer
        penalty = min(losses, key=lambda each: losses[each])
    everything = np.arange(len(targets))
    return path.head(path.solve(everything, targets, penalty, start=None, tol=1e-6))


class LogisticPath:
    """Penalised logistic regressions on the same features.

    The features are turned to their principal axes, and each axis is scaled by what the loss's curvature there is about
    (a quarter of its variance, and the penalty): L-BFGS then needs tens of steps instead of thousands, and the solution
    is the same.

    Args:
        features: ``(N, F)``, double precision.
        num_classes: ``K``; of two, one row of weights is solved for.
    """

    def __init__(self, features: np.ndarray, num_classes: int) -> None:
        given = torch.from_numpy(features)
        self.centre = given.mean(0)
        centred = given - self.centre
        self.rows = 1 if num_classes == 2 else num_classes
        if len(given) >= given.shape[1]:
            variances, self.axes = torch.linalg.eigh(centred.T @ centred / len(given))
        else:
            # Fewer images than features: the other axes have no variance, and no weight.
            variances, left = torch.linalg.eigh(centred @ centred.T / len(given))
            kept = variances > variances[-1] * 1e-12
            variances = variances[kept]
            self.axes = centred.T @ left[:, kept] / (variances * len(given)).sqrt()
        self.variances = variances.clamp(min=0)
        self.turned = centred @ self.axes

    def solve(
        self, members: np.ndarray, targets: np.ndarray, penalty: float, *, start: Tensor | None, tol: float
    ) -> Tensor:
        """``(rows, axes + 1)`` weights on the axes, the bias last.

        Args:
            members: Of the images, those that count.
            targets: ``(N,)`` their class numbers.
            penalty: Of the mean loss plus half of it times the squared weights.
            start: Where to begin; 0 by default.
            tol: Largest component of the scaled gradient.
        """
        inputs = self.turned[members]
        wanted = torch.from_numpy(targets).long()
        size = inputs.shape[1]
        scale = torch.cat([(self.variances / 4 + penalty).rsqrt(), torch.tensor([2.0], dtype=torch.float64)])
        begin = torch.zeros(self.rows, size + 1, dtype=torch.float64) if start is None else start

        def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = torch.from_numpy(flat).view(self.rows, size + 1) * scale
            logits = inputs @ weights[:, :-1].T + weights[:, -1]
            if self.rows == 1:
                loss = F.softplus(logits[:, 0]).mean() - (logits[:, 0] * wanted).mean()
                slope = (torch.sigmoid(logits) - wanted[:, None]) / len(inputs)
            else:
                log = logits.log_softmax(1)
                loss = F.nll_loss(log, wanted)
                slope = (log.exp() - F.one_hot(wanted, self.rows)) / len(inputs)
            gradient = torch.cat([slope.T @ inputs + penalty * weights[:, :-1], slope.sum(0)[:, None]], 1)
            value = loss + penalty / 2 * weights[:, :-1].square().sum()
            return float(value), (gradient * scale).flatten().numpy()

        # Its vectors are short: threads that wait for each other would take most of the time on a busy machine.
        with threadpool_limits(1, user_api="blas"):
            found = minimize(
            value_and_gradient, (begin / scale).flatten().numpy(), jac=True, method="L-BFGS-B",
            options={"maxiter": 500, "gtol": tol, "ftol": 1e-11, "maxcor": 10},
        )  # fmt: skip
        return torch.from_numpy(found.x).view(self.rows, size + 1) * scale

    def loss(self, members: np.ndarray, targets: np.ndarray, weights: Tensor) -> float:
        """Mean loss of some images, without the penalty."""
        logits = self.turned[members] @ weights[:, :-1].T + weights[:, -1]
        wanted = torch.from_numpy(targets).long()
        if self.rows == 1:
            return float(F.softplus(logits[:, 0]).mean() - (logits[:, 0] * wanted).mean())
        return float(F.cross_entropy(logits, wanted))

    def head(self, weights: Tensor) -> Head:
        """Weight ``(rows, F)`` and bias ``(rows,)`` for the features as they were given."""
        weight = weights[:, :-1] @ self.axes.T
        return weight.numpy(), (weights[:, -1] - weight @ self.centre).numpy()
