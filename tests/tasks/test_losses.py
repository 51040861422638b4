"""Losses are their papers' formulas; labels of the wrong kind are refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ft.errors import UserError
from ft.tasks.classification import Classification
from ft.tasks.multilabel import Multilabel
from ft.tasks.regression import Regression

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]], dtype=torch.float64)
TARGETS = torch.tensor([0, 2])


def classification(**changes) -> Classification:
    options = {"loss": "cross_entropy", "label_smoothing": 0.0, "focal_gamma": 2.0, "metric": "val/acc", "mode": "max"}
    task = Classification(**{**options, **changes})
    task.fit_labels(np.array(["a", "b", "c"]), (), ())
    return task


def multilabel(**changes) -> Multilabel:
    options = {"loss": "binary_cross_entropy", "label_smoothing": 0.0, "focal_gamma": 2.0, "gamma_positive": 0.0}
    options |= {"gamma_negative": 4.0, "margin": 0.05, "metric": "val/map", "mode": "max"}
    task = Multilabel(**{**options, **changes})
    task.fit_labels(np.eye(3), (), ("a", "b", "c"))
    return task


def regression(**changes) -> Regression:
    task = Regression(**{"loss": "mse", "huber_delta": 1.0, "metric": "val/mae", "mode": "min", **changes})
    task.fit_labels(np.array([[1.0], [3.0]]), (), ("x",))
    return task


def test_focal_loss_is_the_formula():
    probs = LOGITS.softmax(1)[[0, 1], TARGETS]
    expected = (-((1 - probs) ** 2) * probs.log()).mean()
    assert torch.allclose(classification(loss="focal").loss(LOGITS, TARGETS), expected)


def test_focal_loss_without_focus_is_cross_entropy():
    focal, plain = classification(loss="focal", focal_gamma=0.0), classification()
    assert torch.allclose(focal.loss(LOGITS, TARGETS), plain.loss(LOGITS, TARGETS))
    weights = torch.tensor([1.0, 2.0, 4.0])
    focal.with_class_weights(weights)
    plain.with_class_weights(weights)
    assert torch.allclose(focal.loss(LOGITS, TARGETS), plain.loss(LOGITS, TARGETS))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "focal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_targets_mean_the_same_as_class_numbers(loss, smoothing):
    task = classification(loss=loss, label_smoothing=smoothing)
    soft = F.one_hot(TARGETS, 3).double()
    assert torch.allclose(task.loss(LOGITS, soft), task.loss(LOGITS, TARGETS))


def test_smoothing_is_torchs():
    ours = classification(label_smoothing=0.1).loss(LOGITS, TARGETS)
    assert torch.allclose(ours, F.cross_entropy(LOGITS, TARGETS, label_smoothing=0.1))


def test_binary_cross_entropy_gives_each_class_its_own_probability():
    task = classification(loss="binary_cross_entropy")
    assert torch.allclose(task.probabilities(LOGITS), LOGITS.sigmoid())
    assert torch.allclose(classification().probabilities(LOGITS).sum(1), torch.ones(2, dtype=torch.float64))


def test_asymmetric_loss_is_the_formula_and_timms():
    from timm.loss import AsymmetricLossMultiLabel

    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    logits, targets = LOGITS.float(), targets.float()
    theirs = AsymmetricLossMultiLabel(gamma_neg=4, gamma_pos=0, clip=0.05)(logits, targets)
    ours = multilabel(loss="asymmetric").loss(logits, targets)
    assert torch.allclose(ours, theirs / targets.shape[1], atol=1e-4)  # theirs is a sum over the classes


def test_multilabel_focal_is_torchvisions():
    from torchvision.ops import sigmoid_focal_loss

    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    theirs = sigmoid_focal_loss(LOGITS, targets, alpha=-1, gamma=2, reduction="mean")
    assert torch.allclose(multilabel(loss="focal").loss(LOGITS, targets), theirs)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "focal", "asymmetric"])
def test_extreme_logits_stay_finite_and_have_gradients(loss):
    logits = torch.tensor([[60.0, -60.0, 0.0]], requires_grad=True)
    multilabel(loss=loss).loss(logits, torch.tensor([[0.0, 1.0, 1.0]])).backward()
    assert logits.grad.isfinite().all()
    logits = torch.tensor([[60.0, -60.0, 0.0]], requires_grad=True)
    classification(loss="focal").loss(logits, torch.tensor([1])).backward()
    assert logits.grad.isfinite().all()


def test_one_label_with_a_sigmoid():
    task = Multilabel(
        loss="focal",
        label_smoothing=0,
        focal_gamma=1,
        gamma_positive=0,
        gamma_negative=1,
        margin=0,
        metric="m",
        mode="max",
    )
    task.fit_labels(np.array([[0.0], [1.0]]), (), ("sick",))
    assert task.num_outputs == 1
    metrics = task.metrics()
    metrics.update(torch.tensor([[0.9], [0.2]]), torch.tensor([[1], [0]]))
    assert {name: float(value) for name, value in metrics.compute().items()}["exact"] == 1


def test_regression_learns_standardised_values_and_tells_real_ones():
    task = regression()
    logits = torch.tensor([[0.0], [1.0]])
    assert torch.allclose(task.probabilities(logits), torch.tensor([[2.0], [3.0]]))
    assert float(task.loss(torch.tensor([[1.0]]), torch.tensor([[3.0]]))) == 0
    again = Regression(loss="l1", huber_delta=1.0, metric="m", mode="min")
    again.load_state_dict(task.state_dict())
    assert torch.equal(again.probabilities(logits), task.probabilities(logits))


def test_metrics_with_equal_states_at_first_stay_apart():
    """torchmetrics merges metrics whose states are equal after the first batch, and never parts them again."""
    task = Classification(loss="cross_entropy", label_smoothing=0, focal_gamma=0, metric="m", mode="max")
    task.fit_labels(np.array(list("abcdef")), (), ())
    metrics = task.metrics()
    metrics.update(torch.eye(6), torch.arange(6))
    metrics.update(torch.eye(6), torch.arange(6).roll(1))
    values = metrics.compute()
    assert float(values["acc"]) == 0.5
    assert float(values["top5"]) > 0.5


@pytest.mark.parametrize(
    ("make", "labels", "columns", "told"),
    [
        (classification, np.array([[1.0]]), ("x",), "needs one class name an image"),
        (multilabel, np.array(["a"]), (), "needs label columns of 0 and 1"),
        (multilabel, np.array([[0.5]]), ("x",), "needs labels of 0 and 1, got 0.5"),
        (regression, np.array(["a"]), (), "needs numbers"),
        (regression, np.array([[np.nan]]), ("x",), "needs finite values"),
    ],
)
def test_labels_of_another_kind_are_refused(make, labels, columns, told):
    with pytest.raises(UserError, match=told):
        make().fit_labels(labels, (), columns)


def test_a_class_without_training_image_and_an_unknown_one_are_named():
    task = classification()
    with pytest.raises(UserError, match="class 'd' has no training image"):
        task.fit_labels(np.array(["a", "b"]), ("a", "b", "d"), ())
    with pytest.raises(UserError, match="class 'z' is in val but not in train"):
        classification().encode(np.array(["a", "z"]), "val")
