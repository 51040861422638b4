"""The solved head is scikit-learn's solution, in the units the network works in."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss

from ft.optim.head_solver import PENALTIES, RIDGE_PENALTIES, solve_linear_head


@pytest.fixture(scope="module")
def features():
    return 7 * np.abs(np.random.default_rng(0).normal(size=(160, 24)))


def classes_of(features, num):
    towards = np.random.default_rng(1).normal(size=(features.shape[1], num))
    noise = np.random.default_rng(2).gumbel(size=(len(features), num))
    return (0.1 * features @ towards + noise).argmax(1)


@pytest.mark.parametrize("num", [2, 4])
def test_class_probabilities_are_those_of_logistic_regression(features, num):
    targets = classes_of(features, num)
    weight, bias = solve_linear_head(features, targets, "classes", num_outputs=num)
    assert weight.shape == (num, 24)
    logits = features @ weight.T + bias
    found = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scale = np.sqrt(np.square(features).mean())
    differences = []
    for penalty in PENALTIES:
        reference = LogisticRegression(C=1 / (penalty * len(features)), tol=1e-10, max_iter=20_000)
        wanted = reference.fit(features / scale, targets).predict_proba(features / scale)
        differences.append(np.abs(found - wanted).max())
    assert min(differences) < 1e-3, "the solution at one of the penalties"
    assert log_loss(targets, found) < np.log(num)


def test_the_penalty_is_the_one_that_predicts_unseen_images_best(features):
    """Labels of pure chance ask for the strongest penalty, labels without chance for a weak one."""
    chance = np.random.default_rng(5).integers(3, size=len(features))
    told = (features @ np.random.default_rng(1).normal(size=(24, 3))).argmax(1)
    sizes = [np.abs(solve_linear_head(features, y, "classes", num_outputs=3)[0]).max() for y in (chance, told)]
    assert sizes[0] < 0.05 * sizes[1]


def test_numbers_are_those_of_ridge_regression_with_its_leave_one_out_penalty(features):
    targets = np.random.default_rng(3).normal(size=(len(features), 2)) + features[:, :2]
    weight, bias = solve_linear_head(features, targets, "numbers", num_outputs=2)
    scale = np.sqrt(np.square(features).mean())
    reference = RidgeCV(alphas=[len(features) * each for each in RIDGE_PENALTIES]).fit(features / scale, targets)
    assert np.allclose(features @ weight.T + bias, reference.predict(features / scale), rtol=1e-8)


def test_labels_are_solved_one_by_one_and_a_constant_one_gets_its_frequency(features):
    targets = np.stack([features[:, 0] > 5, np.ones(len(features)), np.zeros(len(features))], 1).astype(np.float32)
    weight, bias = solve_linear_head(features, targets, "labels", num_outputs=3)
    predicted = features @ weight.T + bias > 0
    assert (predicted[:, 0] == targets[:, 0]).mean() > 0.9
    assert not weight[1:].any()
    assert bias[1] == pytest.approx(np.log(160.5 / 0.5))
    assert bias[2] == pytest.approx(-bias[1])


def test_a_class_of_one_image_is_solved_too(features):
    targets = np.zeros(len(features), dtype=int)
    targets[:3] = [1, 2, 2]
    weight, bias = solve_linear_head(features, targets, "classes", num_outputs=3)
    assert np.isfinite(weight).all()
    assert np.isfinite(bias).all()
