"""LogME against the evidence itself, maximised without any of its formulas."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from ft.optim.logme import logme


def evidence(features: np.ndarray, target: np.ndarray) -> float:
    """The largest ``log p(y)`` over both variances, ``y ~ N(0, F F^T / alpha + I / beta)``, an image."""

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = features @ features.T / alpha + np.eye(len(features)) / beta
        return -multivariate_normal(np.zeros(len(features)), covariance).logpdf(target)

    starts = [minimize(negative, (a, b), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000})
              for a, b in ((0.0, 0.0), (3.0, 1.0))]  # fmt: skip
    return -min(each.fun for each in starts) / len(features)


@pytest.mark.parametrize(("images", "size"), [(60, 8), (25, 40)], ids=["more images", "more features"])
def test_it_is_the_maximum_of_the_evidence(images: int, size: int):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(images, size)) + 0.5
    targets = np.stack([features[:, 0] + 0.7 * generator.normal(size=images), generator.normal(size=images) > 0], 1)
    wanted = np.mean([evidence(features, targets[:, at].astype(float)) for at in range(2)])
    assert logme(features, targets) == pytest.approx(wanted, abs=1e-5)


def test_features_that_tell_the_classes_are_better_than_those_that_do_not():
    generator = np.random.default_rng(1)
    labels = generator.integers(3, size=200)
    noise = generator.normal(size=(200, 10))
    telling = noise + 2 * np.eye(3, 10)[labels]
    targets = np.eye(3)[labels]
    assert logme(telling, targets) > logme(noise, targets) + 0.1


def test_an_output_that_never_occurs_does_not_count():
    features = np.random.default_rng(0).normal(size=(20, 4))
    target = (features[:, :1] > 0).astype(float)
    both = np.concatenate([target, np.zeros((20, 1))], 1)
    assert logme(features, both) == pytest.approx(logme(features, target))


def test_features_that_are_all_zero_leave_the_noise():
    target = np.random.default_rng(0).normal(size=(50, 1))
    alone = -0.5 * (np.log(2 * np.pi * np.mean(target**2)) + 1)
    assert logme(np.zeros((50, 4)), target) == pytest.approx(alone)
