"""A sweep runs what is missing, once, and says what came of it."""

import json
from pathlib import Path

import pytest
import yaml

from ft.run_folder import RunFolder


def test_a_grid_leaves_one_run_folder_for_each_combination(sweep):
    swept = sweep("optimizer=adam,sgd", "optimizer.lr=0.01,0.001")
    assert swept.code == 0
    assert [row["params"] for row in swept.rows] == [
        {"optimizer": name, "optimizer.lr": lr} for name in ("adam", "sgd") for lr in (0.01, 0.001)
    ]
    for row in swept.rows:
        run = RunFolder(swept.path / row["jobs"][0]["run"])
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        assert config["choices"]["optimizer"] == row["params"]["optimizer"]
        assert config["optimizer"]["lr"] == row["params"]["optimizer.lr"]
        assert "sweep" not in config
        assert json.loads(run.summary.read_text(encoding="utf-8"))["val/acc"] == row["value"]
        assert run.best.is_dir()
    assert len({row["jobs"][0]["run"] for row in swept.rows}) == 4


def test_the_same_command_again_trains_nothing(sweep):
    first = sweep("seed=0,1")
    written = {file: file.stat().st_mtime_ns for file in first.path.glob("runs/0*/summary.json")}
    again = sweep("seed=0,1")
    assert again.code == 0
    assert len(written) == 2
    assert {file: file.stat().st_mtime_ns for file in again.path.glob("runs/0*/summary.json")} == written
    assert [row["value"] for row in again.rows] == [row["value"] for row in first.rows]


@pytest.mark.full
def test_a_grid_that_has_grown_trains_only_what_is_new(sweep):
    first = sweep("seed=0,1", "sweep.name=mine")
    again = sweep("seed=0,1,2", "sweep.name=mine")
    assert (first.code, again.code) == (0, 0)
    assert len(list(again.path.glob("runs/0*"))) == 3


@pytest.mark.full
def test_resume_remembers_the_command(sweep):
    sweep("seed=0,1", "sweep.trials=1")
    again = sweep("resume=last", "sweep.trials=null", tiny=False)
    assert [row["params"] for row in again.rows] == [{"seed": 0}, {"seed": 1}]
    assert {row["state"] for row in again.rows} == {"finished"}


def test_the_value_of_a_trial_is_the_mean_of_its_seeds(sweep):
    swept = sweep("sweep.seeds=2", "seed=3")
    (row,) = swept.rows
    values = [job["value"] for job in row["jobs"]]
    assert [job["seed"] for job in row["jobs"]] == [3, 4]
    assert row["value"] == pytest.approx(sum(values) / 2)


@pytest.mark.full
def test_a_run_that_was_begun_goes_on_from_its_last_checkpoint(sweep):
    whole = sweep("seed=0,1", "trainer.max_epochs=2", "sweep.name=whole")
    cut = sweep("seed=0,1", "trainer.max_epochs=2", "sweep.name=cut", "sweep.trials=1")
    job = cut.rows[0]["jobs"][0]
    run = RunFolder(cut.path / job["run"])
    # As a kill after the last epoch and before the test leaves it.
    (cut.path / "jobs" / job["key"] / "result.json").unlink()
    run.summary.unlink()
    metrics = (run.path / "metrics.csv").read_text(encoding="utf-8")
    again = sweep("seed=0,1", "trainer.max_epochs=2", "sweep.name=cut")
    assert [row["value"] for row in again.rows] == [row["value"] for row in whole.rows]
    assert (run.path / "metrics.csv").read_text(encoding="utf-8").splitlines()[:2] == metrics.splitlines()[:2]


def test_a_failure_ends_its_trial_and_not_the_sweep(sweep):
    # What only the data can tell: a value that is wrong by itself is refused before the first run.
    swept = sweep("model.num_classes=4,7", "sweep.retries=0")
    assert swept.code == 3
    assert [row["state"] for row in swept.rows] == ["finished", "failed"]
    assert swept.rows[1]["jobs"][0]["why"] == "mistake"
    assert "model.num_classes=7, but the data has 4" in swept.rows[1]["jobs"][0]["message"]


def test_jobs_print_into_their_own_files(sweep):
    swept = sweep("seed=0,1")
    for row in swept.rows:
        assert "test" in (swept.path / "jobs" / row["jobs"][0]["key"] / "output.txt").read_text(encoding="utf-8")
    assert "epoch" not in swept.out


def test_no_time_is_left_for_a_second_trial(sweep):
    swept = sweep("seed=0,1,2", "sweep.budget=0.1s")
    assert [row["state"] for row in swept.rows] == ["finished"]
    assert "1 trial: 1 finished" in swept.out
    assert "not begun: 2 of 3; the same command goes on" in swept.out
    assert swept.code == 0
    again = sweep("seed=0,1,2")
    assert [row["state"] for row in again.rows] == ["finished"] * 3
    assert "not begun" not in again.out


@pytest.mark.parametrize(("metric", "mode"), [("val/loss", "min"), ("val/acc", "min"), ("val/loss", "max")])
def test_the_metric_that_is_named_first_decides(sweep, metric, mode):
    swept = sweep("optimizer=adam,sgd", "sweep.name=plain", "optimizer.lr=0.01")
    named = sweep("optimizer=adam,sgd", "sweep.name=named", "optimizer.lr=0.01", f"sweep.metrics={{{metric}: {mode}}}")
    assert [row["value"] for row in named.rows] == [row["metrics"][metric] for row in swept.rows]
    assert [row["jobs"][0]["value"] for row in named.rows] == [row["value"] for row in named.rows]
    best = (min if mode == "min" else max)(named.rows, key=lambda row: row["value"])
    assert f"best  trial {best['number']}  " in named.out
    assert f"{metric} {best['value']:.4f}" in named.out
    asked = yaml.safe_load((named.path / "sweep.yaml").read_text(encoding="utf-8"))
    assert (asked["metric"], asked["mode"]) == (metric, mode)


def test_the_page_of_a_sweep_goes_by_that_metric_too(sweep):
    swept = sweep("optimizer=adam,sgd", "sweep.metrics={val/loss: min, seconds: min}", "sweep.report=true")
    best = min(swept.rows, key=lambda row: row["value"])
    written = yaml.safe_load((swept.path / "best.yaml").read_text(encoding="utf-8"))
    assert {"override /optimizer": best["params"]["optimizer"]} in written["defaults"]
    assert "val/loss" in (swept.path / "sweep.html").read_text(encoding="utf-8")


def test_words_that_are_said_again_are_nothing_new(sweep):
    first = sweep("seed=0,1", "sweep.trials=1")
    again = sweep("seed=0,1", "resume=last", "sweep.trials=null")
    assert again.code == 0, again.err
    assert again.path.resolve() == first.path.resolve()
    assert [row["state"] for row in again.rows] == ["finished"] * 2


def test_an_apostrophe_in_the_path_is_no_quote(sweep, tmp_path):
    swept = sweep("seed=0", f'runs_dir="{tmp_path}/o\'brien"')
    assert swept.code == 0, swept.err
    assert (tmp_path / "o'brien" / "sweeps" / "last" / "trials.json").is_file()


@pytest.mark.full
def test_every_run_in_a_process_of_its_own(sweep):
    swept = sweep("seed=0", "sweep.isolate=true", "model.head.drop_rate=0.0,0.1")
    assert swept.code == 0, swept.rows
    assert {row["state"] for row in swept.rows} == {"finished"}


def test_what_a_sweep_was_asked_is_written_down(sweep):
    swept = sweep("optimizer=adam,sgd", "sweep.name=mine")
    asked = yaml.safe_load((swept.path / "sweep.yaml").read_text(encoding="utf-8"))
    assert asked["metric"] == "val/acc"
    assert asked["mode"] == "max"
    assert list(asked["space"]) == ["optimizer"]
    assert asked["name"] == "mine"
    assert Path(swept.path.resolve()).name == "mine"
