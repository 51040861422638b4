"""Labels that are planted wrong are found from features alone."""

import numpy as np
import pytest

pytest.importorskip("cleanlab", reason="the extra doctor is not installed")
pytest.importorskip("imagehash", reason="the extra doctor is not installed")

from ft.results.doctor.labels import label_findings, suspects
from ft.results.doctor.subject import CLASSIFICATION, Part, Subject

CLASSES = ("ant", "bee", "cat")


def blobs(each: int = 60, *, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of features, well apart, and their labels."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((3, 24))
    labels = np.repeat(np.arange(3), each)
    return (centres[labels] + spread * rng.standard_normal((3 * each, 24))).astype(np.float32), labels


def test_planted_label_errors_are_found_and_the_right_class_is_suggested():
    features, labels = blobs()
    planted = np.array([3, 40, 77, 100, 130, 170])
    given = labels.copy()
    given[planted] = (labels[planted] + 1) % 3
    found = suspects(features, given, np.arange(len(given)), folds=5, seed=0)
    # Two ways to prune have to agree on each; one of the six is named by only one of them.
    assert set(found.at) < set(planted)
    assert len(found.at) == len(planted) - 1
    assert (found.suggested == labels[found.at]).all()
    assert (np.diff(found.quality) >= 0).all()
    assert found.quality.max() < 0.5
    assert found.accuracy == pytest.approx(1 - len(planted) / len(given))


def test_right_labels_are_not_suspicious():
    features, labels = blobs()
    assert len(suspects(features, labels, np.arange(len(labels)), folds=5, seed=0).at) == 0


def test_copies_do_not_vouch_for_each_other():
    # Noise: with a copy of an image among the training images of its fold, its label would be known.
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((60, 2000)), rng.integers(0, 2, 60)
    features, labels = np.repeat(features, 2, axis=0), np.repeat(labels, 2)
    groups = np.repeat(np.arange(60), 2)
    apart = suspects(features, labels, groups, folds=5, seed=0)
    leaking = suspects(features, labels, np.arange(120), folds=5, seed=0)
    assert apart.accuracy < 0.7 < 0.85 < leaking.accuracy


def test_the_finding_names_files_of_all_splits():
    features, labels = blobs()
    given = labels.copy()
    given[[5, 150]] = [2, 0]
    parts = {"train": slice(0, 90), "test": slice(90, 180)}
    subject = Subject(
        {name: Part([], given[rows], [f"{name}/{at}" for at in range(90)]) for name, rows in parts.items()},
        CLASSIFICATION,
        CLASSES,
    )
    findings, left_out = label_findings(subject, np.arange(180), features, np.arange(180), folds=5, seed=0)
    assert left_out == ""
    items = {item["file"]: item for item in findings[0].items}
    assert {name: (item["split"], item["label"], item["suggested"]) for name, item in items.items()} == {
        "train/5": ("train", "cat", "ant"),
        "test/60": ("test", "ant", "cat"),
    }


def test_classes_too_small_for_the_folds_are_left_out_and_named():
    features, labels = blobs()
    # Three different bees; nine of them are copies of one.
    keep = np.concatenate([np.arange(72), np.arange(120, 180)])
    groups = np.where((keep >= 60) & (keep < 70), 60, keep)
    subject = Subject(
        {"train": Part([], labels[keep], [str(at) for at in keep])},
        CLASSIFICATION,
        CLASSES,
    )
    findings, left_out = label_findings(subject, np.arange(len(keep)), features[keep], groups, folds=5, seed=0)
    assert findings == []
    assert left_out == "suspicious labels: fewer than 5 different images of bee"
    few = np.arange(72)
    one = Subject({"train": Part([], labels[few], [str(at) for at in few])}, CLASSIFICATION, CLASSES)
    assert "fewer than two classes" in label_findings(one, few, features[few], groups[few], folds=5, seed=0)[1]
