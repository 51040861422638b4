"""Images in memory to what the user is told: the words that CSV, server and report share."""

import json

import pytest
import torch
from PIL import Image

from ft.build.trained import load_predictor
from ft.inference.predict_images import describe, pixels, predict_images
from ft.inference.predictions import Predictions
from ft.inference.reading import Reading

CLASSES = ("cat", "dog", "owl", "yak")
CLASSIFIER = Reading("classification", CLASSES, "softmax")


def test_images_in_memory_are_told_what_the_run_has_kept(train_run):
    run = train_run()
    predictor, kept = load_predictor(run.folder), Predictions.load(run.folder.path, "test")
    images = [run.data.splits["test"].images[at] for at in kept.index.tolist()]
    assert torch.allclose(predict_images(predictor, images), kept.told, atol=1e-5)
    assert pixels(predictor, images[0]).dtype == torch.uint8
    assert predict_images(predictor, []).shape == (0, len(predictor.reading.classes))
    odd = [Image.new(mode, size) for mode, size in (("L", (1, 300)), ("P", (7, 5)), ("RGBA", (64, 64)), ("1", (9, 9)))]
    assert predict_images(predictor, odd).shape == (4, len(predictor.reading.classes))


def test_a_classifier_names_its_likeliest_classes_in_order():
    said = describe(CLASSIFIER, torch.tensor([0.1, 0.6, 0.25, 0.05]))
    assert (said["label"], said["probability"]) == ("dog", 0.6)
    assert [each["label"] for each in said["top_k"]] == ["dog", "owl", "cat"]
    assert "abstained" not in said
    assert len(describe(CLASSIFIER, torch.tensor([0.1, 0.6, 0.25, 0.05]), 10)["top_k"]) == 4
    assert json.loads(json.dumps(said)) == said


def test_of_equal_probabilities_the_first_class_is_named():
    told = torch.full((4,), 0.25)
    assert describe(CLASSIFIER, told)["label"] == CLASSES[int(told.argmax())] == "cat"


@pytest.mark.parametrize(("below", "label"), [(0.59, "dog"), (0.61, None)])
def test_below_a_confidence_there_is_no_label(below, label):
    said = describe(CLASSIFIER, torch.tensor([0.1, 0.6, 0.25, 0.05]), abstain_below=below)
    assert said["label"] == label
    assert said["abstained"] is (label is None)
    assert (said["probability"], said["top_k"][0]["label"]) == (0.6, "dog")


def test_labels_are_those_above_their_own_thresholds():
    reading = Reading("multilabel", ("in", "out", "day"), "sigmoid", thresholds=(0.2, 0.9, 0.5))
    said = describe(reading, torch.tensor([0.3, 0.8, 0.5]))
    assert said == {"labels": ["in", "day"], "probabilities": {"in": 0.3, "out": 0.8, "day": 0.5}}


def test_numbers_come_by_name_with_the_digits_that_single_precision_has():
    reading = Reading("regression", ("age", "kg"), "linear")
    assert describe(reading, torch.tensor([0.1, 123456.7])) == {"values": {"age": 0.1, "kg": 123456.7}}
