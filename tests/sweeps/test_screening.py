"""``sweep.screen``: every trial is run cheaply first, then the best of all as asked."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from ft.jobs import run as job
from tests.sweeps.conftest import Swept

Sweep = Callable[..., Swept]
WORDS = (
    "sweep.sampler=random", "sweep.screen={model.img_size:16}", "sweep.finalists=2", "sweep.name=mine", "recipe=full",
    "optimizer.lr=tag(log,interval(1e-5,0.05))", "trainer.max_epochs=2", "data.batch_size=4",
)  # fmt: skip


def metrics_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as lines:
        return [{key: value for key, value in row.items() if "second" not in key} for row in csv.DictReader(lines)]


def in_state(swept: Swept, state: str) -> list[dict]:
    return [row for row in swept.rows if row["state"] == state]


def finalists_of(swept: Swept) -> set[tuple]:
    return {tuple(row["params"].items()) for row in in_state(swept, "finished")}


def test_the_best_of_all_are_run_as_asked_and_a_second_call_runs_nothing(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    swept = sweep(*WORDS, "sweep.trials=3", "sweep.finalists=1")
    assert swept.code == 0
    finalists, others = in_state(swept, "finished"), in_state(swept, "pruned")
    assert (len(finalists), len(others)) == (1, 2)
    screened = values_told(swept)
    assert [row["screened"] for row in swept.rows] == screened
    assert min(screened[row["number"]] for row in finalists) >= max(row["value"] for row in others)
    assert swept.out.count("(pruned)") == 3, "each of them is told when it was screened"
    for row, size in [*((row, 32) for row in finalists), *((row, 16) for row in others)]:
        config = (swept.path / row["jobs"][0]["run"] / "config.yaml").read_text()
        assert f"img_size: {size}\n" in config

    def never(*_, **__):
        raise AssertionError("was run already")

    monkeypatch.setattr(job, "fit", never)
    again = sweep(*WORDS, "sweep.trials=3", "sweep.finalists=1")
    assert again.code == 0
    assert again.rows == swept.rows


def values_told(swept: Swept) -> list[float]:
    """What the sampler was told of each trial."""
    import optuna

    from ft.trial_storage import open_storage

    storage = open_storage(f"sqlite:///{swept.path}/study.db", patience=5.0)
    trials = optuna.load_study(study_name="mine", storage=storage).trials
    return [trial.value for trial in trials if trial.value is not None]


@pytest.mark.full
def test_a_finalist_is_the_run_it_would_have_been_without_screening(sweep: Sweep):
    words = [word for word in WORDS if not word.startswith("sweep.name")]
    screened = sweep(*words, "sweep.name=screened", "sweep.trials=3", "sweep.finalists=1")
    (finalist,) = in_state(screened, "finished")
    found = metrics_of(screened.path / finalist["jobs"][0]["run"])
    whole = sweep(*words, "sweep.name=whole", "sweep.trials=3", "sweep.screen=null")
    (same,) = [row for row in whole.rows if row["params"] == finalist["params"]]
    assert metrics_of(whole.path / same["jobs"][0]["run"]) == found
    assert finalist["value"] == same["value"]
    assert finalist["seconds"] > screened.rows[finalist["number"]]["jobs"][0]["seconds"], "screening counts too"


@pytest.mark.full
@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_sweep_that_grows_keeps_its_finalists(sweep: Sweep, sampler: str):
    words = [*WORDS, f"sweep.sampler={sampler}", "sweep.finalists=1"]
    rates = "optimizer.lr={}"
    if sampler == "grid":
        words = [word for word in words if not word.startswith("optimizer.lr")]
        first = finalists_of(sweep(*words, rates.format("1e-5,1e-3,1e-2")))
        more = sweep(*words, rates.format("1e-5,1e-3,1e-2,2e-2,3e-2"))
    else:
        first = finalists_of(sweep(*words, "sweep.trials=3"))
        more = sweep("resume=mine", "sweep.trials=8", tiny=False)
    assert len(first) == 1
    assert more.code == 0
    assert first <= finalists_of(more)
    assert len(finalists_of(more)) <= 2


@pytest.mark.full
def test_a_finalist_that_fails_leaves_the_others(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    fit, calls = job.fit, []

    def faulty(run, **settings):
        calls.append(run)
        if len(calls) == 4:  # the first finalist, after three that were screened
            raise RuntimeError("the disk is gone")
        return fit(run, **settings)

    monkeypatch.setattr(job, "fit", faulty)
    swept = sweep(*WORDS, "sweep.trials=3", "sweep.retries=0")
    assert swept.code == 3
    assert sorted(row["state"] for row in swept.rows) == ["failed", "finished", "pruned"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep.screen={model.img_sise:16}"], "img_sise"),
        (["sweep.screen={optimizer.lr:0.1}"], "sweep.screen sets optimizer.lr, which is searched"),
        (["sweep.finalists=0"], "sweep.finalists must be a whole number of at least 1, got 0"),
    ],
)
def test_a_mistake_in_what_is_cheap_is_told_before_the_first_run(sweep: Sweep, words: list[str], told: str):
    changed = {word.partition("=")[0] for word in words}
    swept = sweep(*(word for word in WORDS if word.partition("=")[0] not in changed), *words, "sweep.trials=3")
    assert swept.code == 2
    assert told in swept.err
