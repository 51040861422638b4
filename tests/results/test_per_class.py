"""Rows per class against scikit-learn."""

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from ft.results.per_class import per_class
from ft.scoring.intervals import wilson
from tests.results.made import classified, labelled, measured, predictions


def columns(rows):
    return [[getattr(row, name) for row in rows] for name in ("precision", "recall", "f1", "support")]


def test_classes_have_the_values_of_scikit_learn():
    found = classified(300, 5, skill=1.0)
    expected = precision_recall_fscore_support(found.targets, found.logits.argmax(1))
    for got, wanted in zip(columns(per_class(found)), expected, strict=True):
        assert got == pytest.approx(wanted.tolist(), abs=1e-12)
    assert [row.name for row in per_class(found)] == list(found.reading.classes)


def test_labels_are_taken_at_their_thresholds():
    found = labelled(200, 3, thresholds=(0.2, 0.5, 0.8))
    taken = found.logits.sigmoid() >= torch.tensor([0.2, 0.5, 0.8])
    expected = precision_recall_fscore_support(found.targets, taken)
    for got, wanted in zip(columns(per_class(found)), expected, strict=True):
        assert got == pytest.approx(wanted.tolist(), abs=1e-12)


def test_recall_has_an_interval_that_a_class_without_images_fills():
    rows = per_class(predictions("classification", "softmax", torch.tensor([0, 0, 1]), torch.eye(3)[[0, 1, 1]]))
    assert (rows[0].recall_low, rows[0].recall_high) == wilson(1, 2)
    assert (rows[2].support, rows[2].recall, rows[2].recall_low, rows[2].recall_high) == (0, 0.0, 0.0, 1.0)


def test_numbers_have_no_classes():
    assert per_class(measured(10, 2)) == []
