"""A run folder is whole, its own, and found again."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from ft.errors import UserError
from ft.run_folder import RunFolder


def test_two_runs_started_in_the_same_second_differ(tmp_path):
    folders = [RunFolder.plan(str(tmp_path)) for _ in range(20)]
    for folder in folders:
        folder.create()
    assert len({folder.path for folder in folders}) == 20
    assert (tmp_path / "last").resolve() == folders[-1].path


def test_no_name_holds_what_a_shell_or_hydra_would_read(tmp_path):
    assert not set(RunFolder.plan(str(tmp_path)).path.name) & set("=, []{}()")


def test_a_run_is_found_by_path_by_name_and_as_last(tmp_path):
    folder = RunFolder.plan(str(tmp_path))
    folder.create()
    folder.config.write_text("seed: 0")
    for run in (str(folder.path), folder.path.name, "last"):
        assert RunFolder.find(run, runs_dir=str(tmp_path), key="run").path == folder.path
    with pytest.raises(UserError, match=rf"run=elsewhere is not a run folder.* The newest is {folder.path.name}"):
        RunFolder.find("elsewhere", runs_dir=str(tmp_path), key="run")
    with pytest.raises(UserError, match="no checkpoint 'best' yet"):
        folder.checkpoint("best")


def test_what_a_run_leaves_behind(train_run):
    run = train_run("optimizer=adam", "model.head.pool=avg")
    folder = run.folder.path
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "classes.json",
        "data_files.json",
        "checkpoints",
        "reading.json",
        "predictions",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} >= {"best", "last", "last.1", "last.2"}
    config = OmegaConf.load(folder / "config.yaml")
    assert config.optimizer._target_ == "torch.optim.Adam"
    assert config.choices.optimizer == "adam"
    assert config.model.input.crop_pct == 1.0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["weights"] == "random"
    assert {"val/acc", "val/loss", "test/acc", "seconds", "images_per_second", "best_epoch"} <= set(summary)
    assert all(isinstance(value, str | int | float | None) for value in summary.values())
    assert json.loads((folder / "classes.json").read_text())["classes"] == list(run.module.task.classes)
    header, *rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 2
    assert all(row.count(",") == header.count(",") and ",," not in row for row in rows)


def test_training_returns_the_metric_of_the_best_epoch(build_run):
    from ft.fit import fit

    run = build_run()
    value = fit(run, started=0.0)
    rows = [row["val/acc"] for row in run.metrics.rows.values()]
    assert value == max(rows)


def test_random_weights_are_announced_at_the_start_and_at_the_end(build_run, capsys, monkeypatch):
    from ft.fit import fit

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("ft.model.weights.download_file", lambda *_: None)
    fit(build_run("model.weights=auto"), started=0.0)
    assert capsys.readouterr().out.count("RANDOM WEIGHTS") == 2
    fit(build_run(), started=0.0)
    assert "RANDOM WEIGHTS" not in capsys.readouterr().out


def test_evaluating_a_run_gives_the_numbers_of_its_summary(train_run, tmp_path):
    from ft.evaluate import evaluate
    from tests.conftest import composed

    run = train_run("task.label_smoothing=0.1")
    tested = json.loads(run.folder.summary.read_text())
    with composed(f"run='{run.folder.path}'", "accelerator=cpu", config="evaluate") as config:
        evaluate(config)
    written = json.loads((run.folder.path / "evaluation_test.json").read_text())
    for name in ("test/acc", "test/loss", "test/f1"):
        assert written[name] == pytest.approx(tested[name], rel=1e-6)
    assert len(written["per_class"]["acc"]) == len(written["classes"]) == 4
    with (
        composed(f"run='{run.folder.path}'", "split=tst", config="evaluate") as config,
        pytest.raises(UserError, match=r"split=tst is not a choice.*Did you mean test"),
    ):
        evaluate(config)


def test_the_weights_that_are_tested_are_the_best_ones(train_run):
    from ft.checkpoint.load import load

    run = train_run("trainer.max_epochs=3")
    best = load(run.folder.best)
    assert best["epoch"] == run.checkpoints.best_epoch
    for name, tensor in run.module.state_dict().items():
        assert torch.equal(tensor, best["state_dict"][name])


def test_class_names_with_brackets_are_shown_as_they_are(build_run, capsys):
    from ft.show.console import evaluation_table, header

    run = build_run()
    run.module.task.classes = ("[bold]cat[/]", "[dog", "x", "y")
    header(run)
    evaluation_table(run.folder, "test", {"test/acc": 0.5}, {"acc": [0.1, 0.2, 0.3, 0.4]}, run.module.task.classes)
    shown = capsys.readouterr().out
    assert shown.count("[bold]cat[/]") == 2
    assert shown.count("[dog") == 2
