"""Files that cannot be read, sizes, shapes, modes and the balance of classes."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("imagehash", reason="the extra doctor is not installed")

from ft.data.images import open_image
from ft.input_spec import InputSpec
from ft.results.doctor.balance import balance_findings, count
from ft.results.doctor.look import look_at_all, look_at_file
from ft.results.doctor.shapes import shape_findings
from ft.results.doctor.subject import REGRESSION, Part, Subject
from ft.results.doctor.unreadable import unreadable_finding
from tests.results.doctor_sets import picture, plain_set, save, subject_of

SPEC = InputSpec(64, 64, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.8)


def test_every_unreadable_file_is_listed_with_its_reason(tmp_path):
    plain_set(tmp_path)
    # Each in two halves: the header is whole, the body is not.
    for name in ("train/cat/0.png", "test/dog/1.png"):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    save(picture(7, size=(400, 300)), tmp_path / "val" / "cat" / "cut.jpg")
    cut = tmp_path / "val" / "cat" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:3000])
    subject = subject_of(tmp_path)
    looks = look_at_all(subject, lambda: None)
    (finding,) = unreadable_finding(subject, [("train/dog/9.png", "the file is empty")], looks)
    assert [item["file"] for item in finding.items] == [
        "train/dog/9.png",
        "train/cat/0.png",
        "val/cat/cut.jpg",
        "test/dog/1.png",
    ]
    assert all(item["why"] for item in finding.items)
    assert "truncated" in finding.items[2]["why"]
    assert (finding.severity, finding.title) == ("error", "4 files cannot be read")
    assert len(looks.looks) == len(subject) - 3


def test_a_draft_is_smaller_and_knows_the_whole_size(tmp_path):
    file = save(picture(1, size=(1600, 1200)), tmp_path / "large.jpg")
    assert open_image(str(file), draft=64).size == (200, 150)
    assert open_image(str(file)).size == (1600, 1200)
    look = look_at_file(str(file))
    assert (look.width, look.height) == (1600, 1200)


def test_a_photo_on_its_side_is_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    look = look_at_file(str(save(picture(1, size=(400, 100)), tmp_path / "a.jpg", exif=exif)))
    assert (look.width, look.height) == (100, 400)


def test_small_long_and_odd_images_are_told(tmp_path):
    plain_set(tmp_path)
    train = tmp_path / "train" / "cat"
    save(picture(50, size=(60, 200)), train / "small.png")
    # As the transform does: 64 / 0.8 = 80 pixels is what the shorter side becomes.
    save(picture(51, size=(79, 90)), train / "barely.png")
    save(picture(52, size=(80, 90)), train / "enough.png")
    save(picture(53).convert("CMYK"), train / "print.jpg")
    save(picture(54).convert("L"), train / "grey.png")
    clear = picture(55).convert("RGBA")
    clear.putalpha(90)
    save(clear, train / "clear.png")
    flat = picture(56).convert("P")
    save(flat, train / "palette.png", transparency=0)
    subject = subject_of(tmp_path)
    looks = look_at_all(subject, lambda: None)
    found = {f.kind: f for f in shape_findings(subject, looks, SPEC, extreme_aspect=3.0)}
    assert [item["file"] for item in found["small_images"].items] == ["train/cat/barely.png", "train/cat/small.png"]
    assert found["small_images"].items[1]["width"] == 60
    assert [item["file"] for item in found["extreme_shapes"].items] == ["train/cat/small.png"]
    assert {item["mode"]: item["example"]["file"] for item in found["modes"].items} == {
        "CMYK": "train/cat/print.jpg",
        "grey": "train/cat/grey.png",
        "RGB with transparency": "train/cat/clear.png",
        "palette with transparency": "train/cat/palette.png",
    }
    assert {finding.severity for finding in found.values()} == {"info"}


def test_images_as_they_should_be_are_not_told(tmp_path):
    subject = subject_of(plain_set(tmp_path))
    assert shape_findings(subject, look_at_all(subject, lambda: None), SPEC, extreme_aspect=3.0) == []


def test_imbalance_small_and_missing_classes():
    counts = {"train": {"cat": 90, "dog": 25, "emu": 4}, "val": {"cat": 9, "dog": 2, "emu": 0}}
    found = {f.kind: f for f in balance_findings(counts, min_images=20, max_ratio=3.0)}
    assert found["missing_classes"].items == [{"split": "val", "class": "emu"}]
    assert found["small_classes"].items == [{"class": "emu", "count": 4}]
    assert found["imbalance"].items[0] == {"class": "emu", "count": 4, "share": 0.0336}
    assert "22.5 times" in found["imbalance"].title
    assert balance_findings({"train": {"cat": 30, "dog": 20}}, min_images=20, max_ratio=3.0) == []


def test_counts_are_of_readable_images_and_of_labels(tmp_path):
    subject = subject_of(plain_set(tmp_path, each=3))
    images, counts = count(subject, np.arange(1, len(subject)))
    assert images == {"train": 5, "val": 6, "test": 6}
    assert counts["train"] == {"cat": 2, "dog": 3}
    values = Subject({"train": Part([], np.zeros((2, 1)), ["a", "b"])}, REGRESSION, ("age",))
    assert count(values, np.arange(2)) == ({"train": 2}, {"train": {}})
