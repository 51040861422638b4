"""Reliability against torchmetrics and by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from ft.inference.calibrate import calibrated
from ft.scoring.calibration import before_and_after, reliability
from tests.results.made import classified, labelled, measured


def test_four_bets_by_hand():
    probs = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.5, 0.5]])
    found = reliability(probs, np.array([0, 1, 1, 0]), bins=10)
    assert found.count.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1, 1]
    assert found.confidence[[4, 5, 8, 9]].tolist() == [0.5, 0.6, 0.9, 0.95]
    assert found.accuracy[[4, 5, 8, 9]].tolist() == [1, 1, 1, 0]
    assert np.isnan(found.confidence[0])
    assert np.isnan(found.accuracy[0])
    assert found.ece == pytest.approx((0.5 + 0.4 + 0.1 + 0.95) / 4)


def test_the_error_is_that_of_torchmetrics():
    found = classified(500, 6)
    probs = found.logits.softmax(1)
    assert reliability(probs, found.targets).ece == pytest.approx(
        float(multiclass_calibration_error(probs, found.targets, 6, n_bins=15)), abs=1e-6
    )
    labels = labelled(300, 4)
    assert reliability(labels.told, labels.targets).ece == pytest.approx(
        float(binary_calibration_error(labels.told.flatten(), labels.targets.int().flatten(), n_bins=15)), abs=1e-6
    )
    assert reliability(labels.told, labels.targets).count.sum() == 1200


def test_certainty_is_in_the_last_bin_and_none_in_the_first():
    found = reliability(torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [0.0]]))
    assert (found.count[0], found.count[-1], found.ece) == (1, 1, 0.0)


def test_the_temperature_mends_what_is_overconfident():
    found = classified(4000, 5, skill=2.0)
    sharp = type(found)(
        found.split,
        calibrated(found.reading, 4 * found.logits, found.targets),
        found.names,
        found.index,
        found.targets,
        4 * found.logits,
    )
    both = before_and_after(sharp)
    assert both is not None
    assert both[0].ece > 0.1
    assert both[1].ece < 0.03
    assert both[1].ece == reliability(sharp.told, sharp.targets).ece


def test_numbers_have_no_confidence():
    assert before_and_after(measured(10, 1)) is None
