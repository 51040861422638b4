"""``sweep.pruner=halving``: every run is looked at, then the best of all are run to their end."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from ft.jobs import run as job
from tests.sweeps.conftest import Swept

Sweep = Callable[..., Swept]
WORDS = (
    "sweep.sampler=random", "sweep.pruner=halving", "sweep.first_look=0.25", "sweep.finalists=2", "sweep.name=mine",
    "recipe=full", "optimizer.lr=tag(log,interval(1e-5,0.05))", "trainer.max_epochs=2", "data.batch_size=4",
)  # fmt: skip


def metrics_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as lines:
        return [{key: value for key, value in row.items() if "second" not in key} for row in csv.DictReader(lines)]


def test_the_best_of_all_looks_are_run_to_their_end_and_a_second_call_runs_nothing(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
):
    swept = sweep(*WORDS, "sweep.trials=5")
    assert swept.code == 0
    finalists = [row for row in swept.rows if row["state"] == "finished"]
    others = [row for row in swept.rows if row["state"] == "pruned"]
    assert (len(finalists), len(others)) == (2, 3)
    looks = {row["number"]: look_of(swept, row["number"]) for row in swept.rows}
    assert min(looks[row["number"]] for row in finalists) >= max(row["value"] for row in others)
    assert swept.out.count("(pruned)") == 5, "each of them is told when it was looked at"
    assert all(len(metrics_of(swept.path / row["jobs"][0]["run"])) == 2 for row in finalists)

    def never(*_, **__):
        raise AssertionError("was run already")

    monkeypatch.setattr(job, "fit", never)
    again = sweep(*WORDS, "sweep.trials=5")
    assert again.code == 0
    assert again.rows == swept.rows


def look_of(swept: Swept, number: int) -> float:
    import optuna

    from ft.trial_storage import open_storage

    storage = open_storage(f"sqlite:///{swept.path}/study.db", patience=5.0)
    return optuna.load_study(study_name="mine", storage=storage).trials[number].intermediate_values[1]


@pytest.mark.full
def test_a_finalist_is_the_run_it_would_have_been_without_a_look(sweep: Sweep):
    words = [word for word in WORDS if not word.startswith("sweep.name")]
    halved = sweep(*words, "sweep.name=halved", "sweep.trials=3", "sweep.finalists=1")
    (finalist,) = [row for row in halved.rows if row["state"] == "finished"]
    found = metrics_of(halved.path / finalist["jobs"][0]["run"])
    whole = sweep(*words, "sweep.name=whole", "sweep.trials=3", "sweep.pruner=none", "sweep.first_look=null")
    (same,) = [row for row in whole.rows if row["params"] == finalist["params"]]
    assert metrics_of(whole.path / same["jobs"][0]["run"]) == found
    assert finalist["value"] == same["value"]


@pytest.mark.full
def test_a_sweep_that_grows_keeps_its_finalists(sweep: Sweep):
    few = sweep(*WORDS, "sweep.trials=3", "sweep.finalists=1")
    first = {row["number"] for row in few.rows if row["state"] == "finished"}
    more = sweep("resume=mine", "sweep.trials=8", "sweep.finalists=1", tiny=False)
    assert more.code == 0
    finished = {row["number"] for row in more.rows if row["state"] == "finished"}
    assert first <= finished
    assert len(finished) <= 2


@pytest.mark.full
def test_a_finalist_that_fails_leaves_the_others(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    fit, calls = job.fit, []

    def faulty(run, **settings):
        calls.append(run)
        if len(calls) == 4:  # the first finalist, after three looks
            raise RuntimeError("the disk is gone")
        return fit(run, **settings)

    monkeypatch.setattr(job, "fit", faulty)
    swept = sweep(*WORDS, "sweep.trials=3", "sweep.retries=0")
    assert swept.code == 3
    assert sorted(row["state"] for row in swept.rows) == ["failed", "finished", "pruned"]


def test_halving_without_a_look_is_a_mistake(sweep: Sweep):
    swept = sweep(*(word for word in WORDS if "first_look" not in word), "sweep.trials=3")
    assert swept.code == 2
    assert "set sweep.first_look=0.2" in swept.err
