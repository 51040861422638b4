"""Names from data are names: nothing is written outside the run's own folder, whatever things are called."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from ft.command.search_path import register
from ft.command.winners import refuse_hydra
from ft.errors import UserError
from ft.inference.predictions import Predictions
from ft.inference.reading import Reading
from ft.plain_files import is_plain_name
from ft.sweeps.request import read_request
from tests.conftest import TINY, composed

HOSTILE = [
    "../../outside", "..", "/etc/outside", "a/../../outside", "C:\\outside", "..\\outside", "x\0y", "x\ny",
    "con", "NUL.txt", "x" * 300, " x", "x.", "", "\x1b[2J", "a:b", "a|b", "a*b", "~/x", "com1", "\u202egpj.exe",
]  # fmt: skip
PLAIN = ["a", "tune_3f9c2a", "my-sweep", "2026-01-31", "größe", "猫", "a.b", "x" * 120]
# What a folder or a column may be called, and a class after it.
CLASSES = [
    "<script>alert(1)</script>", "{{ 7 * 7 }}", "{% for x in () %}", "=cmd|' /C calc'!A0", "..", "%2e%2e", "$(touch x)",
    "`touch x`", "a'b\"c", "x" * 200, "__import__('os')", "${oc.env:HOME}", "*[a]?", "-rf", "\\..\\x",
    "\u202e", "$\\nope{$",
]  # fmt: skip


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_what_is_no_plain_name_is_told(name):
    # Some are text that file systems take, but no name that is the same everywhere.
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names_are_plain(name):
    assert is_plain_name(name)


@pytest.mark.parametrize("name", [7, None, ["a"], b"a"])
def test_what_is_no_text_is_no_name(name):
    assert not is_plain_name(name)


def test_a_sweep_is_named_by_one_plain_name(tmp_path):
    from ft.sweeps.compose import Composer

    with composed():
        composer = Composer(GlobalHydra.instance().config_loader(), "train", [])
        for name in ("../../outside", "/etc/outside", "a/b", "..", "a\\\\b"):
            with pytest.raises(UserError, match=r"sweep\.name must be the name of one folder"):
                read_request([f"sweep.name='{name}'", f"runs_dir='{tmp_path}'", "optimizer.lr=0.1,0.2"], composer)


def test_a_sweep_that_goes_on_takes_no_word_of_hydras_from_its_folder(tmp_path):
    from ft.sweeps.compose import Composer

    folder = tmp_path / "sweeps" / "mine"
    folder.mkdir(parents=True)
    words = (
        "hydra.launcher._target_=os.system",
        "+hydra.callbacks.x._target_=os.system",
        "++hydra.job_logging.handlers.x.()=os.system",
        "hydra/launcher=joblib",
        "hydra.sweeper._target_=os.system",
        "hydra=x",
    )
    with composed():
        composer = Composer(GlobalHydra.instance().config_loader(), "train", [])
        for word in words:
            (folder / "sweep.yaml").write_text(json.dumps({"arguments": ["optimizer.lr=0.1,0.2", word]}))
            with pytest.raises(UserError, match="hydra's own keys are only taken from the command line") as caught:
                read_request([f"resume='{folder}'", f"runs_dir='{tmp_path}'"], composer)
            assert len(str(caught.value).splitlines()) <= 3


WINNERS = {
    "a launcher": "hydra:\n  launcher:\n    _target_: os.system\n",
    "a callback": "hydra:\n  callbacks:\n    x:\n      _target_: os.system\n",
    "logging": "hydra:\n  job_logging:\n    handlers:\n      x:\n        (): os.system\n",
    "a choice of hydra's": "defaults:\n  - override /hydra/launcher: joblib\n",
    "a package of hydra's": "# @package hydra\nlauncher:\n  _target_: os.system\n",
    "another package": "# @package hydra.callbacks.x\n_target_: os.system\n",
    "a config put into hydra's": "defaults:\n  - /optimizer@hydra.launcher: adam\n",
    "a choice that is looked up": "a: hydra\ndefaults:\n  - /${a}/launcher: joblib\n",
    "escapes": '"\\x68ydra":\n  launcher:\n    _target_: os.system\n',
    "python": "a: !!python/object/apply:os.mkdir ['MARKER']\n",
}


@pytest.mark.parametrize("kind", WINNERS)
def test_the_winner_of_a_sweep_sets_nothing_of_hydras(kind, tmp_path, monkeypatch, marker):
    from ft.command.verb import run_verb

    folder = tmp_path / "sweeps" / "experiment" / "best_of"
    folder.mkdir(parents=True)
    text = WINNERS[kind].replace("MARKER", str(marker))
    (folder / "mine.yaml").write_text(text if text.startswith("#") else f"# @package _global_\n{text}")
    words = ["train", f"runs_dir={tmp_path}", "experiment=best_of/mine"]
    monkeypatch.setattr("sys.argv", words)
    called = []
    with pytest.raises(SystemExit) as caught:
        run_verb(called.append, "train")
    assert caught.value.code == 2
    assert not called


def test_nothing_else_below_the_folder_of_sweeps_is_a_config(tmp_path, monkeypatch, capsys):
    from ft.command.verb import run_verb

    (tmp_path / "sweeps" / "experiment" / "best_of").mkdir(parents=True)
    (tmp_path / "sweeps" / "optimizer").mkdir()
    (tmp_path / "sweeps" / "optimizer" / "planted.yaml").write_text("hydra:\n  launcher:\n    _target_: os.system\n")
    monkeypatch.setattr("sys.argv", ["train", f"runs_dir={tmp_path}", "optimizer=planted"])
    with pytest.raises(SystemExit) as caught:
        run_verb(lambda config: None, "train")
    assert caught.value.code == 2
    assert "optimizer=planted is not a choice" in capsys.readouterr().err


def test_an_ordinary_winner_is_taken():
    refuse_hydra(
        {"defaults": [{"override /optimizer": "adam"}, "/experiment/digits", "_self_"], "optimizer": {"lr": 0.1}},
        {"package": "_global_"},
        "x",
    )
    register()  # repeated calls are harmless


@pytest.fixture
def oddly_named(tmp_path) -> Path:
    """``photos/CLASS/N.png`` with the classes above, and odd names of files."""
    generator = np.random.default_rng(0)
    photos = tmp_path / "data" / "photos"
    for at, name in enumerate(CLASSES):
        folder = photos / name.replace("/", "_") if name != ".." else photos / "..."
        folder.mkdir(parents=True)
        for number in range(4):
            odd = ("..png", "=1+1.png", "<b>.png", f"{number}\n.png")[number] if at == 1 else f"{number}.png"
            pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / odd, format="PNG")
    return photos


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Glyph")  # a font of figures lacks the mark that turns the writing direction
def test_whatever_classes_and_files_are_called_all_is_written_below_the_run(oddly_named, tmp_path, capsys):
    from ft.build.run import build
    from ft.evaluate import evaluate
    from ft.export import export
    from ft.fit import fit
    from ft.report import report

    before = everything(tmp_path)
    runs = tmp_path / "runs"
    words = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]
    with composed(
        *words, "data=folder", f"data.root='{oddly_named}'", "model.img_size=32", "trainer.max_epochs=1",
        "data.decoded=off", f"runs_dir='{runs}'",
    ) as config:  # fmt: skip
        run = build(config)
    fit(run, started=0.0)
    place = run.folder.path
    for verb, name in ((evaluate, "evaluate"), (report, "report"), (export, "export")):
        with composed(f"run='{place}'", f"runs_dir='{runs}'", config=name) as config:
            verb(config)
    new = everything(tmp_path) - before
    assert new
    assert all(path == "runs" or path.startswith("runs/") for path in new)
    assert {path.parts[1] for path in map(Path, new) if len(path.parts) > 1} == {place.name, "last"}
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;_script&gt;" in page
    assert "{{ 7 * 7 }}" in page


@pytest.mark.parametrize("split", ["../../outside", "/etc/outside", "test\0"])
def test_the_split_that_a_file_names_is_not_where_it_is_written(split, tmp_path):
    reading = Reading("classification", ("a", "b"), "softmax")
    run = tmp_path / "deep" / "run"
    run.mkdir(parents=True)
    stored = Predictions("test", reading, ("0.jpg",), torch.tensor([0]), torch.tensor([1]), torch.zeros(1, 2))
    stored.save(run)
    from safetensors.torch import load_file, save_file

    file = run / "predictions" / "test.safetensors"
    header = {"split": split, "reading": json.dumps(reading.as_dict()), "names": json.dumps(["../../0.jpg"])}
    save_file(load_file(file), file, header)
    again = Predictions.load(run, "test")
    assert again.split == "test"
    again.save(run)
    assert everything(tmp_path) == {
        "deep",
        "deep/run",
        "deep/run/predictions",
        *(f"deep/run/predictions/test.{ending}" for ending in ("safetensors", "csv")),
    }


def test_a_table_keeps_names_as_they_are_for_joining(tmp_path):
    # No cell is changed for spreadsheets: docs/reliability.md says so.
    reading = Reading("classification", ("=1+1", "b"), "softmax")
    names = ("=cmd|' /C calc'!A0", "-2+3.jpg")
    Predictions("test", reading, names, torch.arange(2), torch.tensor([1, 0]), torch.zeros(2, 2)).save(tmp_path)
    with (tmp_path / "predictions" / "test.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["image"] for row in rows] == list(names)


def test_a_symlink_out_of_a_checkpoint_is_read_and_never_written_through(a_run, tmp_path):
    from ft.checkpoint.load import load

    folder = tmp_path / "copied"
    shutil.copytree(a_run.path, folder, symlinks=True)
    weights = folder / "checkpoints" / "last" / "weights.safetensors"
    secret = tmp_path / "secret"
    secret.write_bytes(b"kept")
    weights.unlink()
    os.symlink(secret, weights)
    with pytest.raises(UserError, match="is damaged"):
        load(folder / "checkpoints" / "last")
    assert secret.read_bytes() == b"kept"
