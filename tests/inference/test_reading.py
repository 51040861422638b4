"""Logits mean the same wherever they are read; temperature and thresholds are what validation says is best."""

import json

import pytest
import torch
import torch.nn.functional as F

from ft.inference.calibrate import best_temperature, best_thresholds, calibrated
from ft.inference.reading import Reading

CLASSES = ("a", "b", "c")


def overconfident(temperature: float, size: int = 4000):
    """Logits that are ``temperature`` times as large as the truth wants them."""
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(size, 3, generator=generator) * 2
    targets = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    return honest * temperature, targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_is_found(temperature):
    logits, targets = overconfident(temperature)
    assert best_temperature(logits, targets, "softmax") == pytest.approx(temperature, rel=0.1)


def test_no_other_temperature_has_a_lower_loss():
    logits, targets = overconfident(2.0)
    best = best_temperature(logits, targets, "softmax")
    losses = [float(F.cross_entropy(logits / other, targets)) for other in (0.9 * best, best, 1.1 * best)]
    assert losses[1] == min(losses)


def test_a_model_without_a_mistake_has_the_smallest_temperature_there_is():
    logits = torch.eye(3) * 5
    assert best_temperature(logits, torch.arange(3), "softmax") == pytest.approx(0.05, rel=0.01)


def test_the_threshold_lies_where_f1_is_best():
    told = torch.tensor([[0.9], [0.4], [0.3], [0.1]])
    assert best_thresholds(told, torch.tensor([[1.0], [1.0], [0.0], [0.0]])) == [pytest.approx(0.35)]


def test_between_equal_probabilities_there_is_no_threshold():
    told = torch.tensor([[0.9], [0.4], [0.4], [0.1]])
    threshold = best_thresholds(told, torch.tensor([[1.0], [1.0], [0.0], [0.0]]))[0]
    assert threshold == pytest.approx(0.25)


def test_a_label_that_is_never_or_always_there_keeps_a_half():
    told = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0.0, 1.0]]).expand(5, 2)
    assert best_thresholds(told, targets) == [0.5, 0.5]


def test_numbers_are_never_calibrated_and_come_in_their_own_unit():
    reading = Reading("regression", ("cm",), "linear", mean=(10.0,), std=(2.0,))
    assert calibrated(reading, torch.zeros(4, 1), torch.zeros(4, 1)) is reading
    assert reading.tell(torch.tensor([[0.5]])).item() == 11.0


def test_thresholds_are_those_of_tempered_probabilities():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 2, generator=generator) * 6
    targets = (torch.rand(200, 2, generator=generator) < (logits / 3).sigmoid()).float()
    found = calibrated(Reading("multilabel", ("x", "y"), "sigmoid"), logits, targets)
    assert found.temperature > 1.5
    labels = found.labels(found.tell(logits))
    hits = ((labels == (targets > 0)).float().mean(0)).tolist()
    assert min(hits) > 0.75


def test_it_survives_json():
    reading = Reading("multilabel", CLASSES, "sigmoid", 1.5, (0.1, 0.2, 0.3))
    assert Reading.from_dict(json.loads(json.dumps(reading.as_dict()))) == reading
