"""Copies, exact and near: those that are planted are found, and nothing else is."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

pytest.importorskip("imagehash", reason="the extra doctor is not installed")

from ft.results.doctor.copies import copies_findings, identical
from ft.results.doctor.hamming import pairs_within
from ft.results.doctor.look import look_at_all
from ft.results.doctor.near import near_copies, near_pairs
from ft.results.doctor.subject import MULTILABEL, Part, Subject
from tests.results.doctor_sets import files_of, picture, plain_set, save, subject_of

NEAR = {"phash_bits": 10, "dhash_bits": 14, "likeness": 0.83}


def findings_of(subject):
    looks = look_at_all(subject, lambda: None)
    exact = identical(subject, looks)
    found = copies_findings(subject, [*exact, *near_copies(looks, exact, **NEAR)])
    return {finding.kind: finding for finding in found}


def test_different_pictures_are_no_copies(tmp_path):
    assert findings_of(subject_of(plain_set(tmp_path, each=12))) == {}


def test_a_copy_in_another_split_is_leakage_and_with_another_label_a_conflict(tmp_path):
    plain_set(tmp_path)
    shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "test" / "cat" / "copy.png")
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "train" / "dog" / "copy.png")
    shutil.copy(tmp_path / "train" / "cat" / "2.png", tmp_path / "val" / "dog" / "copy.png")
    shutil.copy(tmp_path / "train" / "cat" / "3.png", tmp_path / "train" / "cat" / "copy.png")
    found = findings_of(subject_of(tmp_path))
    across = {"train/cat/2.png", "val/dog/copy.png"}
    assert [files_of(item) for item in found["leakage"].items] == [{"train/cat/0.png", "test/cat/copy.png"}, across]
    assert [files_of(item) for item in found["conflicting_labels"].items] == [
        {"train/cat/1.png", "train/dog/copy.png"},
        across,
    ]
    assert [files_of(item) for item in found["duplicates"].items] == [{"train/cat/3.png", "train/cat/copy.png"}]
    assert {item["same"] for item in found["leakage"].items} == {"bytes"}
    assert found["leakage"].severity == found["conflicting_labels"].severity == "error"
    assert set(found) == {"leakage", "conflicting_labels", "duplicates"}


def test_another_file_with_the_same_pixels_is_a_copy(tmp_path):
    plain_set(tmp_path)
    with Image.open(tmp_path / "train" / "cat" / "0.png") as image:
        save(image, tmp_path / "val" / "cat" / "copy.bmp")
    found = findings_of(subject_of(tmp_path))
    assert [item["same"] for item in found["leakage"].items] == ["pixels"]


def test_jpegs_that_agree_only_when_they_are_drafted_are_not_called_identical(tmp_path):
    # A draft is an average over blocks, where a checkerboard of pixels is as grey as the plain grey beside it.
    plain_set(tmp_path)
    checkers = np.indices((512, 512)).sum(0) % 2 * 40 + 100
    soft = np.asarray(picture(99, size=(512, 512)).convert("L"), dtype=np.int64) // 4
    options = {"quality": 100}
    save(Image.fromarray((checkers + soft).astype(np.uint8)), tmp_path / "train" / "cat" / "fine.jpg", **options)
    save(Image.fromarray((120 + soft).astype(np.uint8)), tmp_path / "test" / "cat" / "flat.jpg", **options)
    subject = subject_of(tmp_path)
    looks = look_at_all(subject, lambda: None)
    drafts = [look.pixels for look in looks.looks if look.width == 512]
    forged = [at for at, look in enumerate(looks.looks) if look.width == 512]
    # Whether the decoder's rounding lets them agree or not: say that they do.
    for at in forged:
        object.__setattr__(looks.looks[at], "pixels", drafts[0])
    assert identical(subject, looks) == []


def test_encoded_anew_resized_and_brightened_are_near_copies(tmp_path):
    plain_set(tmp_path)
    with Image.open(tmp_path / "train" / "cat" / "0.png") as image:
        save(image, tmp_path / "test" / "cat" / "encoded.jpg", quality=60)
    with Image.open(tmp_path / "train" / "cat" / "1.png") as image:
        save(image.resize((90, 68)), tmp_path / "val" / "dog" / "resized.png")
    with Image.open(tmp_path / "train" / "dog" / "2.png") as image:
        save(ImageEnhance.Brightness(image).enhance(0.8), tmp_path / "train" / "dog" / "darker.png")
    found = findings_of(subject_of(tmp_path))
    assert {frozenset(files_of(item)) for item in found["near_leakage"].items} == {
        frozenset({"train/cat/0.png", "test/cat/encoded.jpg"}),
        frozenset({"train/cat/1.png", "val/dog/resized.png"}),
    }
    assert [files_of(item) for item in found["near_conflicts"].items] == [{"train/cat/1.png", "val/dog/resized.png"}]
    assert [files_of(item) for item in found["near_duplicates"].items] == [{"train/dog/2.png", "train/dog/darker.png"}]
    assert found["near_leakage"].severity == "warning"
    assert set(found) == {"near_leakage", "near_conflicts", "near_duplicates"}


def test_flat_images_of_different_colours_are_no_copies(tmp_path):
    plain_set(tmp_path)
    for number, colour in enumerate(["red", "green", "blue", "white", "black", "gray", "#808081"]):
        save(Image.new("RGB", (80, 80), colour), tmp_path / "train" / "cat" / f"flat{number}.png")
    subject = subject_of(tmp_path)
    hashes = [look.phash for look in look_at_all(subject, lambda: None).looks if look.width == 80]
    assert len(hashes) == 7
    assert len(set(hashes)) < 7, "their hashes alone would say that they are"
    assert findings_of(subject) == {}


def test_different_objects_in_the_middle_of_a_white_table_are_no_copies(tmp_path):
    for number in range(16):
        table = Image.new("RGB", (160, 160), (225, 222, 218))
        table.paste(picture(number, size=(60, 60)), (50, 50))
        save(table, tmp_path / "train" / ("cat", "dog")[number % 2] / f"{number}.png")
    subject = subject_of(tmp_path)
    looks = look_at_all(subject, lambda: None)
    grey = looks.column("thumbnail").reshape(16, -1)
    assert np.sort(np.corrcoef(grey)[np.triu_indices(16, 1)])[-1] > 0.83, "plain thumbnails would say that they are"
    assert findings_of(subject) == {}


def test_a_near_copy_of_two_identical_images_is_one_group(tmp_path):
    plain_set(tmp_path)
    shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "train" / "cat" / "copy.png")
    with Image.open(tmp_path / "train" / "cat" / "0.png") as image:
        save(image, tmp_path / "test" / "cat" / "encoded.jpg", quality=70)
    found = findings_of(subject_of(tmp_path))
    assert [files_of(item) for item in found["near_leakage"].items] == [
        {"train/cat/0.png", "train/cat/copy.png", "test/cat/encoded.jpg"}
    ]
    assert [files_of(item) for item in found["duplicates"].items] == [{"train/cat/0.png", "train/cat/copy.png"}]


def test_images_in_memory_are_compared_by_their_pixels():
    images = [picture(seed) for seed in (1, 2, 3, 1)]
    labels = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    part = Part(images, labels, [f"memory/{number}" for number in range(4)])
    subject = Subject({"train": part}, MULTILABEL, ("sea", "sky"))
    found = findings_of(subject)
    assert [item["same"] for item in found["conflicting_labels"].items] == ["pixels"]
    assert [file["label"] for file in found["conflicting_labels"].items[0]["files"]] == ["sea", "sea, sky"]
    assert set(found) == {"conflicting_labels"}


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_pairs_within_a_radius_are_those_that_counting_bit_by_bit_finds(monkeypatch, block):
    monkeypatch.setattr("ft.results.doctor.hamming.BLOCK_PAIRS", block)
    rng = np.random.default_rng(0)
    # Few different bits, so that there are pairs within the radius.
    one, other = (rng.integers(0, 2**8, 60, dtype=np.uint64) for _ in range(2))
    expected = {
        (a, b)
        for a in range(60)
        for b in range(a + 1, 60)
        if bin(int(one[a]) ^ int(one[b])).count("1") <= 2 and bin(int(other[a]) ^ int(other[b])).count("1") <= 3
    }
    found = [
        pair for a, b in pairs_within(one, other, radii=(2, 3)) for pair in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert len(expected) > 10
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_likeness_is_the_correlation_of_details(tmp_path):
    save(picture(1), tmp_path / "train" / "cat" / "0.png")
    save(picture(1), tmp_path / "train" / "cat" / "1.jpg", quality=40)
    save(picture(2), tmp_path / "train" / "dog" / "2.png")
    looks = look_at_all(subject_of(tmp_path), lambda: None)
    first, second, values = near_pairs(looks, phash_bits=64, dhash_bits=64, likeness=-1)
    by_pair = dict(zip(zip(first.tolist(), second.tolist(), strict=True), values.tolist(), strict=True))
    assert set(by_pair) == {(0, 1), (0, 2), (1, 2)}
    assert 0.95 < by_pair[0, 1] < 1
    assert by_pair[0, 2] < 0.6
