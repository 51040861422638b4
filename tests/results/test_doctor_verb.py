"""``ft.doctor`` from its config to its files, and what a user can get wrong."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("imagehash", reason="the extra doctor is not installed")
pytest.importorskip("cleanlab", reason="the extra doctor is not installed")

from ft.doctor import doctor
from ft.errors import UserError
from tests.conftest import composed
from tests.results.doctor_sets import files_of, plain_set

TINY_MODEL = ("model.name=test_resnet", "model.weights=none")
SYNTHETIC = ("data=synthetic", "data.num_images=64", "data.size=32", "data.num_workers=0", "data.suggested.img_size=32")


@pytest.fixture
def examine(tmp_path):
    """Runs the verb on some overrides and gives what it wrote."""

    def run(*overrides: str, output: Path = tmp_path / "out") -> dict:
        with composed(*TINY_MODEL, f"output='{output}'", f"runs_dir='{tmp_path}'", *overrides, config="doctor") as it:
            doctor(it)
        return json.loads((output / "doctor.json").read_text(encoding="utf-8"))

    return run


@pytest.fixture
def photos(tmp_path):
    """With a leak that is a conflict too, an empty file, and one damaged inside."""
    root = plain_set(tmp_path / "photos")
    shutil.copy(root / "train" / "cat" / "0.png", root / "test" / "dog" / "copy.png")
    (root / "val" / "cat" / "0.png").write_bytes(b"")
    damaged = root / "val" / "dog" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    return root


def test_the_worst_comes_first_and_everything_is_written(examine, photos, tmp_path, capsys):
    content = examine("data=folder", f"data.root='{photos}'", "labels=false")
    found = {finding["kind"]: finding for finding in content["findings"]}
    assert list(found) == ["leakage", "conflicting_labels", "unreadable", "small_classes", "small_images"]
    assert files_of(found["leakage"]["items"][0]) == {"train/cat/0.png", "test/dog/copy.png"}
    assert [item["file"] for item in found["unreadable"]["items"]] == ["val/cat/0.png", "val/dog/1.png"]
    assert all(finding["count"] == len(finding["items"]) for finding in found.values())
    assert content["images"] == {"train": 8, "val": 6, "test": 9}
    assert content["counts"]["test"] == {"cat": 4, "dog": 5}
    assert content["skipped"] == ["suspicious labels: labels=false"]
    assert content["pictures"] == {"duplicates": "duplicates.png"}
    with Image.open(tmp_path / "out" / "duplicates.png") as sheet:
        assert sheet.width > 1000
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["doctor.json", "duplicates.png"]
    told = capsys.readouterr().out
    assert told.index("error") < told.index("warning") < told.index("info ")
    assert "train/cat/0.png (cat, train)  =  test/dog/copy.png (dog, test)" in told
    assert "val/cat/0.png: the file is empty" in told


def test_findings_are_kept_unless_they_may_be_overwritten(examine, photos, tmp_path):
    options = ("data=folder", f"data.root='{photos}'", "labels=false")
    examine(*options)
    (photos / "test" / "dog" / "copy.png").unlink()
    before = (tmp_path / "out" / "doctor.json").read_bytes()
    with pytest.raises(UserError, match=r"doctor.json exists already, and is kept: set overwrite=true"):
        examine(*options)
    assert (tmp_path / "out" / "doctor.json").read_bytes() == before
    content = examine(*options, "overwrite=true")
    assert content["findings"][0]["kind"] == "unreadable"
    assert content["pictures"] == {}
    # A picture of what is no longer so does not stay.
    assert not (tmp_path / "out" / "duplicates.png").exists()


def test_strict_ends_with_1_only_when_there_is_an_error(examine, photos, tmp_path):
    with pytest.raises(SystemExit) as ended:
        examine("data=folder", f"data.root='{photos}'", "labels=false", "strict=true")
    assert ended.value.code == 1
    assert (tmp_path / "out" / "doctor.json").is_file()
    clean = plain_set(tmp_path / "clean")
    content = examine("data=folder", f"data.root='{clean}'", "labels=false", "strict=true", output=tmp_path / "other")
    assert {finding["severity"] for finding in content["findings"]} == {"warning", "info"}


def test_wrong_labels_are_looked_for_with_a_pretrained_backbone_whose_features_are_kept(
    examine, pretrained, tmp_path, monkeypatch
):
    content = examine(*SYNTHETIC, pretrained, "limits.folds=3")
    assert content["skipped"] == []

    def decode(*args: object) -> None:
        raise AssertionError("features are computed again")

    monkeypatch.setattr("ft.data.loader.Loader.__iter__", decode)
    again = examine(*SYNTHETIC, pretrained, "limits.folds=3", output=tmp_path / "again")
    assert again["findings"] == content["findings"]


def test_random_weights_say_nothing_of_labels(examine):
    assert examine(*SYNTHETIC)["skipped"] == [
        "suspicious labels: the weights are random: asked for with model.weights=none"
    ]


@pytest.mark.parametrize(
    ("kind", "task", "counts"),
    [("labels", "multilabel", {"circle", "square", "triangle", "cross", "red", "green", "blue"}),
     ("values", "regression", set())],
)  # fmt: skip
def test_tasks_without_classes_are_looked_at_as_far_as_that_goes(examine, kind, task, counts):
    content = examine(*SYNTHETIC, f"data.kind={kind}", f"task={task}")
    assert content["task"] == task
    assert set(content["counts"]["train"]) == counts
    assert content["images"]["train"] == 64
    assert content["skipped"] == [f"suspicious labels: task={task} has no classes to mistake"]


def test_the_data_of_a_run_is_looked_at_in_its_folder(train_run, tmp_path, capsys):
    run = train_run()
    capsys.readouterr()
    with composed(f"run='{run.folder.path}'", config="doctor") as config:
        doctor(config)
    content = json.loads((run.folder.path / "doctor.json").read_text(encoding="utf-8"))
    assert content["images"] == {name: len(split.targets) for name, split in run.data.splits.items()}
    assert content["input"] == {"width": 32, "height": 32}
    assert "random" in content["skipped"][0]
    assert all((run.folder.path / picture).is_file() for picture in content["pictures"].values())
    with (
        composed(f"run='{run.folder.path}'", config="doctor") as config,
        pytest.raises(UserError, match="is kept: set overwrite=true"),
    ):
        doctor(config)
    with (
        composed(f"run='{run.folder.path}'", "data.val_fraction=0.3", config="doctor") as config,
        pytest.raises(UserError, match=r"has its own data and model: leave data.val_fraction out"),
    ):
        doctor(config)


def test_what_is_not_there_is_told_and_nothing_is_written(examine, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty_run").mkdir()
    root = plain_set(tmp_path / "photos")
    folder = ("data=folder", f"data.root='{root}'")
    for overrides, told in (
        (("data=folder",), "data=folder needs data.root=PATH"),
        (("data=folder", f"data.root='{tmp_path}/none'"), "is not a folder"),
        ((f"run='{tmp_path}/empty_run'",), "is not a run folder: it has no config.yaml"),
        (("run=last",), "run=last is not a run folder"),
        ((*folder, "precision=fp16"), "precision=fp16 is not a choice"),
        ((*folder, "device=gpu"), "device=gpu cannot be used"),
        ((*folder, "limits.likeness=1.5"), "limits.likeness must be in (0, 1], got 1.5"),
        ((*folder, "limits.folds=1"), "limits.folds must be at least 2, got 1"),
        ((*folder, "limits.phash_bits=65"), "limits.phash_bits must be between 0 and 64, got 65"),
        ((*folder, f"output='{tmp_path}/file'"), "is a file, and must be a folder"),
        ((*folder, f"output='{tmp_path}/file/below'"), "is a file, and must be a folder"),
    ):
        with pytest.raises(UserError) as caught:
            examine(*overrides)
        assert told in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["imagehash", "cleanlab"])
def test_the_extra_that_is_missing_is_named(examine, monkeypatch, package):
    monkeypatch.setattr("ft.errors.find_spec", lambda name: None if name == package else object())
    with pytest.raises(UserError, match=rf"needs {package}: pip install .*\[doctor\]"):
        examine(*SYNTHETIC)
    if package == "cleanlab":
        assert examine(*SYNTHETIC, "labels=false")["skipped"] == ["suspicious labels: labels=false"]
