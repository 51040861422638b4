"""Which runs of a sweep are averaged: the best of each trial, best first, if their configs promise the same model."""

import copy
from pathlib import Path
from typing import Any

import pytest

from ft.sweeps.running.soup import MOST_MEMBERS, choose_members

PLAIN = {
    "model": {
        "name": "a",
        "open": "all",
        "drop_path_rate": None,
        "head": {"hidden": [], "drop_rate": 0.0},
        "kwargs": {},
    },
    "data": {"path": "flowers", "limit": None, "batch_size": 32, "val_fraction": 0.15},
    "task": {"loss": "cross_entropy"},
    "optimizer": {"lr": 1e-3},
}


def config(section: str = "optimizer", **values: Any) -> dict[str, Any]:
    changed = copy.deepcopy(PLAIN)
    changed[section].update(values)
    return changed


def row(folder: Path, number: int, *values: float | None, state: str = "finished") -> dict[str, Any]:
    """A trial of which each seed has a value and a run folder with a checkpoint; ``None`` is a run that failed."""
    jobs = []
    for seed, value in enumerate(values):
        run = f"runs/{number}_{seed}"
        (folder / run / "checkpoints" / "best").mkdir(parents=True)
        status = "failed" if value is None else "finished"
        jobs.append({"key": f"{number}{seed}", "run": run, "status": status, "value": value})
    return {"number": number, "state": state, "jobs": jobs}


def names(folder: Path, rows: list[dict[str, Any]], configs: dict[str, Any], mode: str = "max") -> list[str]:
    return [path.name for path in choose_members(rows, configs, mode=mode, folder=folder)]


@pytest.mark.parametrize(("mode", "expected"), [("max", ["1_1", "2_0", "0_0"]), ("min", ["0_0", "1_0", "2_0"])])
def test_the_best_run_of_each_trial_best_first(tmp_path, mode, expected):
    rows = [row(tmp_path, 0, 0.1), row(tmp_path, 1, 0.5, 0.9), row(tmp_path, 2, 0.7)]
    configs = dict.fromkeys(("00", "10", "11", "20"), PLAIN)
    assert names(tmp_path, rows, configs, mode) == expected


def test_only_runs_that_have_ended_well_and_left_their_weights(tmp_path):
    rows = [
        row(tmp_path, 0, 0.9, state="pruned"),
        row(tmp_path, 1, None, state="failed"),
        row(tmp_path, 2, float("nan")),
        row(tmp_path, 3, 0.8),
        row(tmp_path, 4, 0.7),
    ]
    (tmp_path / "runs/3_0/checkpoints/best").rmdir()
    assert names(tmp_path, rows, dict.fromkeys(("00", "10", "20", "30", "40"), PLAIN)) == ["4_0"]
    assert names(tmp_path, rows[:3], {}) == []


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        pytest.param(config("optimizer", lr=1.0), True, id="optimizer"),
        pytest.param(config("model", drop_path_rate=0.1), True, id="drop_path_rate"),
        pytest.param(config("model", head={"hidden": [], "drop_rate": 0.5}), True, id="drop_rate of the head"),
        pytest.param(config("model", kwargs={"attn_drop_rate": 0.5}), True, id="drop_rate of the attention"),
        pytest.param(config("model", open="head"), True, id="open"),
        pytest.param(config("data", limit=100, batch_size=8), True, id="fewer training images"),
        pytest.param(config("task", label_smoothing=0.1), True, id="label smoothing"),
        pytest.param(config("model", name="b"), False, id="name"),
        pytest.param(config("model", head={"hidden": [16], "drop_rate": 0.0}), False, id="hidden layers"),
        pytest.param(config("model", kwargs={"window_size": 7}), False, id="kwargs"),
        pytest.param(config("data", path="elsewhere"), False, id="data"),
        pytest.param(config("data", val_fraction=0.3), False, id="validation images"),
        pytest.param(config("task", loss="focal"), False, id="task"),
    ],
)
def test_what_may_differ_between_members(tmp_path, other, fits):
    rows = [row(tmp_path, 0, 0.9), row(tmp_path, 1, 0.8)]
    assert names(tmp_path, rows, {"00": PLAIN, "10": other}) == (["0_0", "1_0"] if fits else ["0_0"])


def test_trials_that_are_the_same_run_count_once_and_there_are_not_too_many(tmp_path):
    rows = [row(tmp_path, number, 0.5 + 0.01 * number) for number in range(MOST_MEMBERS + 2)]
    configs = {each["jobs"][0]["key"]: PLAIN for each in rows}
    chosen = names(tmp_path, [*rows, {**rows[-1], "number": 99}], configs)
    assert chosen == [f"{number}_0" for number in reversed(range(2, MOST_MEMBERS + 2))]
