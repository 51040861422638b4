"""The winner of a sweep is an experiment that composes to its config."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from ft.command.mistakes import explain
from ft.command.search_path import register, winners
from ft.command.verb import CONF
from ft.sweeps.report.best import write_best
from tests.conftest import composed
from tests.sweeps.made import make_sweep

ROOT = Path(__file__).parent.parent.parent
FIXED = {
    "values and choices": ("model=resnet", "optimizer=sgd", "data=folder", "data.root='/a b/c'"),
    "several plugins": ("plugins=[ema,mixup]", "plugins.mixup.alpha=0.4"),
    "one more plugin": ("+plugins=ema", "plugins.ema.decay=0.5"),
    "none of a group": ("recipe=full", "model.head.hidden=[]", "trainer.gradient_clip_val=null"),
    "lists, dicts and new keys": ("model.head.hidden=[64,32]", "+model.kwargs={aa_layer: avg}", "+trainer.x.y=true"),
    "out of another experiment": ("experiment=digits", "optimizer=sgd", "trainer.max_epochs=3"),
    "an interpolation": ("data.suggested.img_size=32", "optimizer.weight_decay=${optimizer.lr}"),
    "the rate that suits the data": ("data=digits", "optimizer=sgd"),
}  # fmt: skip


def plain(*overrides: str) -> dict[str, Any]:
    with composed(*overrides) as config:
        content: Any = OmegaConf.to_container(config, resolve=True)
    return {key: value for key, value in content.items() if key not in ("seed", "runs_dir", "sweep")}


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``runs_dir`` that the command line names."""
    monkeypatch.setattr(sys, "argv", ["ft.train", f"runs_dir='{tmp_path}'"])
    register()
    return tmp_path


@pytest.mark.parametrize("fixed", FIXED.values(), ids=FIXED.keys())
def test_the_experiment_is_the_winners_config(below: Path, fixed: tuple[str, ...]):
    sweep = make_sweep(
        below / "sweeps" / "mine",
        params=lambda number: {"model.head.drop_rate": 0.1 + 0.1 * number},
        states=("finished", "finished"),
        overrides=fixed,
    )
    assert write_best(sweep) == sweep / "best.yaml"
    wanted = plain(*fixed, "model.head.drop_rate=0.1", "seed=1")
    assert plain("experiment=best_of/mine") == wanted
    assert plain("experiment=best_of/last") == wanted


def test_the_file_says_what_it_is_and_where_it_is_from(below: Path):
    sweep = make_sweep(below / "sweeps" / "mine")
    file = write_best(sweep)
    assert file is not None
    text = file.read_text()
    assert text.startswith(
        "# @package _global_\n# The best of 8 trials of the sweep mine (2026-01-31 14:05:09): trial 0.\n"
    )
    assert "over 2 seeds" in text
    assert yaml.safe_load(text) == {
        "defaults": [{"override /optimizer": "adamw"}, "_self_"],
        "optimizer": {"lr": 0.01},
        "model": {"head": {"drop_rate": 0.0}},
    }
    assert (below / "sweeps" / "experiment" / "best_of" / "mine.yaml").read_text() == text


def test_what_a_file_cannot_say_is_told_in_it(below: Path):
    sweep = make_sweep(below / "sweeps" / "mine", states=("finished",), overrides=("~data.batch_size",))
    file = write_best(sweep)
    assert file is not None
    assert "# To be written beside experiment=, a file cannot say it: ~data.batch_size" in file.read_text()
    assert plain("experiment=best_of/mine", "~data.batch_size")["optimizer"]["lr"] == 0.01


def test_without_a_winner_there_is_no_file_and_last_stays_that_of_the_newest(below: Path):
    assert write_best(make_sweep(below / "sweeps" / "none", states=("failed", "pruned"))) is None
    assert not (below / "sweeps" / "experiment").exists()
    newer, older = (make_sweep(below / "sweeps" / name, states=("finished",)) for name in ("newer", "older"))
    (below / "sweeps" / "last").symlink_to("newer")
    write_best(newer)
    write_best(older)
    assert "sweep newer" in (below / "sweeps" / "experiment" / "best_of" / "last.yaml").read_text()


def test_the_folder_is_that_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a b" / "sweeps" / "experiment").mkdir(parents=True)
    (tmp_path / "runs" / "sweeps" / "experiment").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert winners([f"runs_dir='{tmp_path}/a b'"]) == tmp_path / "a b" / "sweeps"
    assert winners([]) == tmp_path / "runs" / "sweeps"
    assert winners(["runs_dir={"]) == tmp_path / "runs" / "sweeps"  # Hydra will tell
    assert winners(["runs_dir=elsewhere"]) is None


def test_a_mistyped_sweep_gets_the_nearest_name(below: Path):
    with pytest.raises(MissingConfigException) as none:
        plain("experiment=best_of/mine")
    assert explain(none.value, CONF, "train").splitlines()[0] == (
        "experiment=best_of/mine: no sweep below runs_dir has a winner yet."
    )
    write_best(make_sweep(below / "sweeps" / "mine_1f", states=("finished",)))
    with pytest.raises(MissingConfigException) as mistyped:
        plain("experiment=best_of/mine_1e")
    assert explain(mistyped.value, CONF, "train") == (
        "experiment=best_of/mine_1e: there is no such sweep below runs_dir. Did you mean mine_1f?\n"
        "It can be best_of/ and one of last, mine_1f."
    )


def test_the_command_line_finds_it(tmp_path: Path):
    write_best(make_sweep(tmp_path / "a b" / "sweeps" / "mine", states=("finished",)))
    command = [
        sys.executable,
        "-m",
        "ft.train",
        f"runs_dir='{tmp_path}/a b'",
        "experiment=best_of/mine",
        "--cfg",
        "job",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load(result.stdout)["optimizer"]["lr"] == 0.01
