"""Metrics are those of scikit-learn and torchmetrics; resamples are real ones; intervals hold what they promise."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics as truth
from torchmetrics.functional import classification as torch_truth

from ft.errors import UserError
from ft.inference.predictions import Predictions
from ft.scoring.intervals import CHUNK, affordable, check_draws, draws, intervals, wilson
from ft.scoring.metrics import metrics_of
from tests.results.made import classified, labelled, measured, predictions, with_hits


def value(found: Predictions, name: str) -> float:
    return float(metrics_of(found)[name](np.ones((len(found), 1)))[0])


def test_classification_has_the_values_of_scikit_learn_and_torchmetrics():
    found = classified(400, 7, skill=1.0, temperature=1.7)
    targets, logits = found.targets, found.logits
    plain, told, chosen = logits.softmax(1), (logits / 1.7).softmax(1), logits.argmax(1)
    expected = {
        "acc": truth.accuracy_score(targets, chosen),
        "f1": truth.f1_score(targets, chosen, average="macro"),
        "auroc": truth.roc_auc_score(targets, plain.double() / plain.double().sum(1, True), multi_class="ovr"),
        "top5": truth.top_k_accuracy_score(targets, plain, k=5),
        "nll": truth.log_loss(targets, told.double() / told.double().sum(1, True)),
        "ece": float(torch_truth.multiclass_calibration_error(told, targets, 7, n_bins=15)),
    }
    assert {name: value(found, name) for name in metrics_of(found)} == pytest.approx(expected, abs=1e-6)


def test_labels_have_the_values_of_scikit_learn():
    found = labelled(300, 4, temperature=0.8, thresholds=(0.2, 0.4, 0.5, 0.7))
    there = found.targets.numpy()
    plain, told = found.logits.sigmoid().numpy(), (found.logits / 0.8).sigmoid().numpy()
    half, tuned = plain > 0.5, told >= np.array([0.2, 0.4, 0.5, 0.7], dtype=np.float32)
    expected = {
        "map": truth.average_precision_score(there, plain, average="macro"),
        "auroc": truth.roc_auc_score(there, plain, average="macro"),
        "f1": truth.f1_score(there, half, average="macro"),
        "f1_tuned": truth.f1_score(there, tuned, average="macro"),
        "exact": truth.accuracy_score(there, half),
        "exact_tuned": truth.accuracy_score(there, tuned),
        "nll": np.mean([truth.log_loss(there[:, at], told[:, at].astype(float)) for at in range(4)]),
        "ece": float(
            torch_truth.binary_calibration_error(torch.tensor(told).flatten(), found.targets.int().flatten(), n_bins=15)
        ),
    }
    assert {name: value(found, name) for name in metrics_of(found)} == pytest.approx(expected, abs=1e-6)
    assert expected["f1"] != expected["f1_tuned"]


def test_numbers_have_the_values_of_scikit_learn():
    found = measured(200, 3)
    expected = {
        "mae": truth.mean_absolute_error(found.targets, found.told),
        "rmse": truth.mean_squared_error(found.targets, found.told) ** 0.5,
        "r2": truth.r2_score(found.targets, found.told),
    }
    assert {name: value(found, name) for name in metrics_of(found)} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("classification", {"loss": "cross_entropy", "label_smoothing": 0.0, "focal_gamma": 2.0}),
        (
            "multilabel",
            {"loss": "binary_cross_entropy", "label_smoothing": 0.0, "focal_gamma": 2.0}
            | {"gamma_positive": 0.0, "gamma_negative": 4.0, "margin": 0.05},
        ),
    ],
)
def test_what_training_logs_has_an_interval_of_the_same_value(task, options):
    from ft.tasks.classification import Classification
    from ft.tasks.multilabel import Multilabel

    found = classified(200, 7) if task == "classification" else labelled(200, 3, temperature=2.0)
    made = {"classification": Classification, "multilabel": Multilabel}[task](metric="val/x", mode="max", **options)
    made.classes = found.reading.classes
    logged = made.metrics()
    logged.update(made.probabilities(found.logits), made.metric_targets(found.targets))
    shown = intervals(found, resamples=100)
    for name, expected in logged.compute().items():
        assert shown[name].value == pytest.approx(float(expected), abs=1e-6), name


@pytest.mark.parametrize(
    "found",
    [
        classified(60, 7, skill=1.0, temperature=1.3),
        labelled(50, 3, thresholds=(0.3, 0.5, 0.6), temperature=0.9),
        measured(40, 2),
    ],
    ids=["classification", "multilabel", "regression"],
)
def test_a_weight_is_worth_as_many_images(found):
    weights = next(iter(draws(len(found), 3, np.random.default_rng(1))))
    assert weights.sum(0).tolist() == [len(found)] * 3
    for at in range(3):
        rows = torch.tensor(np.repeat(np.arange(len(found)), weights[:, at].astype(int)))
        resample = replace(
            found,
            names=tuple(found.names[row] for row in rows),
            index=found.index[rows],
            targets=found.targets[rows],
            logits=found.logits[rows],
        )
        for name, metric in metrics_of(found).items():
            assert metric(weights)[at] == pytest.approx(value(resample, name), abs=1e-9), name


def test_a_share_is_covered_as_often_as_promised():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        found = with_hits(torch.tensor(generator.random(150) < 0.8))
        shown = intervals(found, seed=generator, resamples=200)["acc"]
        covered += shown.low <= 0.8 <= shown.high
    # Two standard errors around what percentiles of 150 coin throws reach, which is a little under 95 %.
    assert 0.91 <= covered / 400 <= 0.975


@pytest.mark.parametrize("bias", [0.01, 0.05])
def test_the_calibration_error_is_covered_although_noise_adds_to_it(bias):
    generator = np.random.default_rng(0)

    def sample(count: int) -> Predictions:
        confidence = 0.5 + 0.5 * np.clip(generator.beta(4, 1, count), 0, 0.999)
        targets = torch.tensor(generator.random(count) > confidence - bias).long()
        logits = torch.tensor(np.stack([confidence, 1 - confidence], 1)).log()
        return predictions("classification", "softmax", targets, logits)

    true = value(sample(300_000), "ece")
    covered = 0
    for _ in range(100):
        shown = intervals(sample(400), seed=generator, resamples=200)["ece"]
        assert shown.low <= shown.value <= shown.high
        covered += shown.low <= true <= shown.high
    assert covered >= 89


def test_a_seed_makes_the_interval_and_a_generator_is_taken():
    found = classified(100, 6)
    first = intervals(found, seed=3, resamples=200)
    assert first == intervals(found, seed=np.random.default_rng(3), resamples=200)
    assert first != intervals(found, seed=4, resamples=200)
    for each in first.values():
        assert each.low <= each.value <= each.high


def test_parts_of_the_draws_are_all_of_them():
    size = CHUNK // 3
    parts = list(draws(size, 7, np.random.default_rng(0)))
    assert [part.shape for part in parts] == [(size, 3), (size, 3), (size, 1)]
    assert all((part.sum(0) == size).all() for part in parts)


def test_a_model_without_a_mistake_is_not_called_certain():
    shown = intervals(with_hits(torch.ones(48, dtype=torch.bool)), resamples=200)["acc"]
    assert (shown.value, shown.high) == (1.0, 1.0)
    assert shown.low == pytest.approx(0.9259, abs=1e-4)


def test_a_class_without_images_has_no_say_in_the_area():
    found = classified(100, 3)
    kept = (found.targets != 2).nonzero().flatten()
    without = predictions("classification", "softmax", found.targets[kept], found.logits[kept])
    scores = without.logits.softmax(1)
    each = [truth.roc_auc_score(without.targets == at, scores[:, at]) for at in (0, 1)]
    assert intervals(without, resamples=100)["auroc"].value == pytest.approx(np.mean(each), abs=1e-6)
    only = predictions("classification", "softmax", torch.zeros(20).long(), found.logits[:20])
    assert "auroc" not in intervals(only, resamples=100)


@pytest.mark.parametrize("found", [classified(1, 7), classified(2, 3), labelled(1, 1), measured(1, 2), measured(2, 1)])
def test_one_or_two_images_have_the_intervals_that_can_be(found):
    shown = intervals(found, resamples=100)
    assert shown
    assert np.isfinite([[each.value, each.low, each.high] for each in shown.values()]).all()
    assert ("auroc" in shown) == (len(found) == 2 and found.reading.task == "classification")


def test_a_constant_output_has_no_share_of_variance():
    targets = torch.full((30, 1), 7.3)
    found = predictions("regression", "linear", targets, targets + torch.randn(30, 1))
    assert set(intervals(found, resamples=100)) == {"mae", "rmse"}


def test_a_thousand_resamples_of_a_thousand_images_take_no_time():
    found = classified(1000, 10)
    intervals(found, resamples=100)
    started = time.process_time()
    intervals(found)
    assert time.process_time() - started < 2
    assert affordable(found, 1000) == 1000


def test_large_splits_get_fewer_resamples_where_images_are_sorted():
    found = replace(classified(10, 2), logits=torch.empty(1).expand(50_000, 1000))
    assert affordable(found, 10_000) == 100
    assert affordable(replace(found, logits=torch.empty(1).expand(50_000, 10)), 10_000) == 1000


def test_wilson_has_its_published_values():
    # Wilson 1927 by hand: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
    z, n, p = 1.959963984540054, 10, 0.8
    middle, spread = p + z**2 / 2 / n, z * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5
    expected = tuple((middle + sign * spread) / (1 + z**2 / n) for sign in (-1, 1))
    assert wilson(8, 10) == pytest.approx(expected, abs=1e-9)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("key", "got"), [("resamples", {"seed": 0, "resamples": 3}), ("seed", {"seed": -1, "resamples": 100})]
)
def test_draws_that_mean_nothing_are_refused(key, got):
    with pytest.raises(UserError, match=rf"{key} must be at least \d+, got {got[key]}"):
        check_draws(**got)
