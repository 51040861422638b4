"""What the shell sees: quick answers, short errors, exit codes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def ft(*arguments: str, verb: str = "train", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"ft.{verb}", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=400,  # on a busy machine too
    )


# What is typed, and what the one to three lines have to say.
MISTAKES = {
    "choice": (["optimizer=adm"], ["optimizer=adm is not a choice", "Did you mean adam"]),
    "choice in a list": (["logger=[tensorbord]"], ["logger=tensorbord is not a choice", "Did you mean tensorboard"]),
    "plugin": (["plugins=[gradual_unfreezng]"], ["Did you mean gradual_unfreezing", "plugins can be ", " mixup"]),
    "plugin that is added": (["+plugins=mixp"], ["plugins=mixp is not a choice", "Did you mean mixup"]),
    "group": (["optimzer=adam"], ["no config key optimzer", "Did you mean optimizer"]),
    "key": (["trainer.max_epoch=3"], ["no config key trainer.max_epoch", "Did you mean trainer.max_epochs"]),
    "key without its group": (["lr=0.1"], ["no config key lr", "Did you mean optimizer.lr"]),
    "kind": (["trainer.max_epochs=abc"], ["trainer.max_epochs must be a whole number or null, got 'abc'"]),
    "switch": (["test=maybe"], ["test must be true or false, got 'maybe'"]),
    "grammar": (["data.root=/my(photos"], ["Hydra reads ( in /my(photos", "'data.root=\"/my(photos\"'"]),
    "no value": (["adam"], ["'adam' is not key=value"]),
    "comma": (["optimizer=adam,sgd"], ["add -m for a sweep"]),
}


@pytest.mark.parametrize(("given", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_to_three_lines_and_exit_code_2(given: list[str], told: list[str]):
    result = ft(*given)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr + result.stdout
    assert 1 <= len(result.stderr.strip().splitlines()) <= 3
    for part in told:
        assert part in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_and_config_are_shown(arguments: list[str]):
    result = ft(*arguments)
    assert result.returncode == 0
    assert "max_epochs" in result.stdout
    assert "${" not in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["trainer.max_epoch=3"]])
def test_questions_are_answered_without_torch(arguments: list[str]):
    # Ten seconds of imports would show: the bar is generous, the claim is that torch is not imported at all.
    started = time.perf_counter()
    result = ft(*arguments, PYTHONVERBOSE="")
    seconds = time.perf_counter() - started
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ft.train", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode in (0, 2)
    assert not [line for line in traced.stderr.splitlines() if line.split("|")[-1].strip() in ("torch", "timm")]
    assert seconds < 5


@pytest.mark.full
def test_nothing_is_left_behind_by_a_mistake(tmp_path: Path):
    result = ft(f"runs_dir={tmp_path}/runs", "data=folder", f"data.root={tmp_path}/none", "trainer=smoke")
    assert result.returncode == 2
    assert "is not a folder" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_config_that_is_no_yaml_is_told_with_its_line(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("a: [1\nb: 2\n")
    result = ft(f"hydra.searchpath=['{tmp_path}']", "experiment=mine")
    assert result.returncode == 2
    assert "is not valid YAML" in result.stderr
    assert "mine.yaml" in result.stderr
    assert "Traceback" not in result.stderr
