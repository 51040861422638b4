"""Every image is predicted by a head that has not seen it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from ft.optim.head_solver import PENALTIES, RIDGE_PENALTIES
from ft.optim.held_out_head import assign_folds, held_out_logits


def told_apart(count: int, classes: int, *, seed: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Features ``(N, F)`` that tell the classes most of the time, and ``(N,)`` classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return generator.normal(size=(count, size)) + 1.2 * np.eye(classes, size)[labels], labels


def test_every_class_is_divided_evenly_and_the_folds_are_of_one_size():
    labels = np.repeat([0, 1, 2], [11, 7, 3])
    folds = assign_folds(labels, 4, seed=0)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert np.ptp(np.bincount(folds, minlength=4)) <= 1
    assert (folds == assign_folds(labels, 4, seed=0)).all()
    assert (folds != assign_folds(labels, 4, seed=1)).any()


@pytest.mark.parametrize("classes", [2, 4])
def test_held_out_probabilities_are_those_of_scikit_learn(classes: int):
    features, labels = told_apart(160, classes, seed=0)
    folds = assign_folds(labels, 4, seed=0)
    logits = held_out_logits(features, labels, "classes", num_outputs=classes, folds=folds)
    scaled = features / np.sqrt(np.mean(features**2))
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    distances = []
    for penalty in PENALTIES:
        model = LogisticRegression(C=1 / (penalty * 120), tol=1e-8, max_iter=5000)
        peer = cross_val_predict(model, scaled, labels, cv=PredefinedSplit(folds), method="predict_proba")
        distances.append(np.abs(probs - peer).max())
    # Of one of the penalties, to the tolerance of the solver.
    assert min(distances) < 0.02
    assert sorted(distances)[1] > 3 * min(distances)


def test_numbers_are_those_of_ridge_regression():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 6))
    values = features @ generator.normal(size=(6, 2)) + 0.1 * generator.normal(size=(60, 2))
    folds = assign_folds(values, 3, seed=0)
    found = held_out_logits(features, values, "numbers", num_outputs=2, folds=folds)
    for fold in range(3):
        seen, held = folds != fold, folds == fold
        scale = np.sqrt(np.mean(features[seen] ** 2))
        peer = RidgeCV(alphas=[seen.sum() * each for each in RIDGE_PENALTIES]).fit(features[seen] / scale, values[seen])
        assert found[held] == pytest.approx(peer.predict(features[held] / scale))


def test_random_labels_are_predicted_no_better_than_by_chance():
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(300, 40)), generator.integers(2, size=300)
    logits = held_out_logits(features, labels, "classes", num_outputs=2, folds=assign_folds(labels, 5, seed=0))
    assert abs((logits.argmax(1) == labels).mean() - 0.5) < 0.09


def test_labels_have_a_column_each_and_one_that_is_never_there_is_no_obstacle():
    features, classes = told_apart(120, 2, seed=0)
    labels = np.stack([classes, 1 - classes, np.zeros(120)], 1)
    logits = held_out_logits(features, labels, "labels", num_outputs=3, folds=assign_folds(labels, 3, seed=0))
    assert logits.shape == (120, 3)
    assert ((logits[:, 0] > 0) == classes).mean() > 0.75
    assert (logits[:, 2] < -2).all()


def test_a_class_of_one_image_is_not_predicted_where_it_is_held_out():
    features, labels = told_apart(61, 3, seed=0)
    labels[-1] = 3
    logits = held_out_logits(features, labels, "classes", num_outputs=4, folds=assign_folds(labels, 3, seed=0))
    assert np.isfinite(logits).all()
    assert logits[-1].argmax() != 3
