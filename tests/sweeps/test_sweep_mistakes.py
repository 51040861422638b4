"""What a user can get wrong about a sweep, and what can go wrong inside one that is right."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from ft.errors import UserError
from tests.sweeps.conftest import Swept

Sweep = Callable[..., Swept]


def refused(swept: Swept, tmp_path: Path, *told: str, wrote: bool = False) -> None:
    """One to three lines that say so, exit code 2, and no trace of a sweep."""
    assert swept.code == 2, swept.err
    lines = swept.err.strip().splitlines()
    assert 1 <= len(lines) <= 3, swept.err
    assert lines[0].startswith("ft: ")
    for part in told:
        assert part in swept.err
    assert (tmp_path / "runs").exists() == wrote


# What is typed after -m, and what the lines have to say.
BEFORE_ANY_RUN = {
    "key": (["optimizer.lrr=0.1,0.2"], ["no config key optimizer.lrr", "Did you mean optimizer.lr?"]),
    "key of a space": (
        ["sweep.space={model.head.dropp_rate: 'choice(0, 0.1)'}"],
        ["model.head.dropp_rate", "model.head.drop_rate"],
    ),
    "choice among choices": (["optimizer=adam,sdg"], ["optimizer=sdg is not a choice", "Did you mean sgd"]),
    "named space": (["sweep=learningrate"], ["sweep=learningrate is not a choice", "Did you mean learning_rate"]),
    "setting": (["sweep.trails=3", "seed=0,1"], ["no config key sweep.trails", "sweep.trials"]),
    "sampler": (["sweep.sampler=tpee", "seed=0,1"], ["sweep.sampler=tpee", "Did you mean tpe"]),
    "pruner": (
        ["sweep.sampler=random", "sweep.trials=2", "sweep.pruner=medain", "seed=0,1"],
        ["sweep.pruner=medain", "Did you mean median"],
    ),
    "no trials": (
        ["sweep.trials=0", "seed=0,1"],
        ["sweep.trials must be a whole number of at least 1, or null, got 0"],
    ),
    "no seeds": (["sweep.seeds=0", "seed=0,1"], ["sweep.seeds must be a whole number of at least 1, got 0"]),
    "side by side in one process": (
        ["sweep.parallel=2", "seed=0,1"],
        ["sweep.parallel=2", "launcher=joblib", "sweep.isolate=true"],
    ),
    "budget": (["sweep.budget=soon", "seed=0,1"], ["sweep.budget", "soon"]),
    "mode": (["sweep.metrics={val/acc: maximum}", "seed=0,1"], ["sweep.metrics.val/acc", "max"]),
    "empty range": (["seed=range(3,3)"], ["seed", "range(3,3)", "empty"]),
    "interval in a grid": (["optimizer.lr=interval(0.1,0.2)"], ["optimizer.lr", "sweep.sampler=tpe"]),
    "endless grid": (["seed=range(0,1000000000)"], ["a grid of seed has 1,000,000,000 combinations", "random"]),
    "condition on nothing": (
        ["sweep.space={optimizer.lr: {range: 'choice(0.1, 0.2)', when: {optimzer: adam}}}", "optimizer=adam,sgd"],
        ["optimizer.lr", "optimzer"],
    ),
    "two metrics and a pruner": (
        ["sweep.sampler=nsga2", "sweep.pruner=median", "sweep.metrics={val/acc: max, seconds: min}", "seed=0,1"],
        ["sweep.pruner", "none"],
    ),
    "sweep inside a sweep": (["sweep.seeds=1,2"], ["sweep.seeds", "one value"]),
    "seeds twice": (["sweep.seeds=2", "seed=0,1"], ["seed is searched already"]),
    "no folds of backbones": (["sweep=backbones", "sweep.folds=1"], ["sweep.folds must be at least 2, got 1"]),
    "search beside backbones": (["sweep=backbones", "seed=0,1"], ["seed has several values", "sweep.candidates"]),
    "metrics of backbones": (["sweep=backbones", "sweep.metrics={val/loss: min}"], ["sweep.metrics must be null"]),
    "space that is none": (["sweep.space=[a]"], ["sweep.space must be {key: values, ...}, or null, got ['a']"]),
    "overrides that are no list": (["sweep.overrides=abc"], ["sweep.overrides must be a list of text", "'abc'"]),
    "overrides without quotes": (
        ["sweep.overrides=[optimizer=adam]"],
        ["""'sweep.overrides=["optimizer=adam"]'"""],
    ),
    "yes or no": (["sweep.isolate=maybe", "seed=0,1"], ["sweep.isolate must be true or false, got 'maybe'"]),
    "name with a space": (["sweep.name='a b'", "seed=0,1"], ["sweep.name", "without spaces, got 'a b'"]),
    "key inside a value": (
        ["model.kwargs={},{nonsense: 1}"],
        ["model.kwargs is given a group with a key that it does not have", "+model.kwargs.NAME=VALUE"],
    ),
    "phase without steps": (
        ["recipe=auto", "recipe.phases=[{depth: 0.5, views: 1, rate: 1.0}],[]"],
        ["recipe.phases.0 lacks steps"],
    ),
    "nothing to resume": (["resume=last"], ["resume=last is not a sweep", "holds no sweeps"]),
}  # fmt: skip


@pytest.mark.parametrize(("given", "told"), BEFORE_ANY_RUN.values(), ids=BEFORE_ANY_RUN.keys())
def test_a_mistake_is_told_before_any_run_begins(sweep: Sweep, tmp_path: Path, given: list[str], told: list[str]):
    refused(sweep(*given), tmp_path, *told)


def test_an_extra_that_is_missing_is_named(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ft.errors.find_spec", lambda name: None if name == "optuna" else object())
    swept = sweep("sweep.sampler=random", "sweep.trials=2", "seed=0,1")
    refused(swept, tmp_path, "sweep.sampler=random needs optuna", "[sweep]")


@pytest.mark.parametrize("given", ["sweep=tune", "sweep.space={seed: 'choice(0, 1)'}"])
def test_a_search_without_m_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str):
    from ft.train import train
    from tests.conftest import TINY, composed

    with (
        composed(*TINY, f"runs_dir={tmp_path}/runs", given) as config,
        pytest.raises(UserError, match=r"many runs: add -m. \(python -m ft.train -m "),
    ):
        train(config)
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_no_run_returns_is_told_once_with_those_that_are(sweep: Sweep, tmp_path: Path):
    swept = sweep("seed=0,1,2", "sweep.metrics={val/accc: max}")
    refused(swept, tmp_path, "val/accc, which no run returns", "Did you mean val/acc", wrote=True)
    assert not list(swept.path.glob("runs/001_*"))
    assert len(list(swept.path.glob("runs/000_*/summary.json"))) == 1, (
        "the first run shows it; the others would be wasted"
    )


@pytest.mark.full
def test_the_folder_of_another_search_is_left_alone(sweep: Sweep):
    first = sweep("seed=0", "optimizer=adam", "sweep.name=mine")
    assert first.code == 0
    before = {file: file.read_bytes() for file in first.path.rglob("*") if file.suffix in (".yaml", ".json", ".csv")}
    for words, told in (
        (
            ["seed=0", "optimizer=adam,sgd", "sweep.name=mine"],
            ["mine is another one", "optimizer=adam was asked", "another sweep.name"],
        ),
        (["resume=mine", "optimizer=adam,sgd"], ["mine is another one", "leave out resume="]),
        (
            ["seed=0", "optimizer=adam", "data.batch_size=4", "sweep.name=mine"],
            ["of its overrides, nothing was asked", "now data.batch_size=4"],
        ),
        (["resume=mine", "sweep.seeds=2"], ["of its seeds, 1 was asked", "now 2"]),
    ):
        swept = sweep(*words, tiny=not words[0].startswith("resume"))
        assert swept.code == 2, words
        assert all(part in swept.err for part in told), swept.err
        assert len(swept.err.strip().splitlines()) <= 3
    assert {file: file.read_bytes() for file in before} == before


def test_a_sweep_that_another_process_works_on_is_left_alone(sweep: Sweep, tmp_path: Path):
    folder = tmp_path / "runs" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        swept = sweep("seed=0,1", "sweep.name=mine")
    refused(swept, tmp_path, "another process works on the sweep", "sweep.name=", wrote=True)
    assert not (folder / "jobs").exists()


def test_a_storage_that_another_process_holds_is_named(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ft.sweeps.samplers.study.PATIENCE", 0.1)
    with sqlite3.connect(tmp_path / "studies.db", isolation_level=None) as held:
        held.execute("create table theirs (number)")
        held.execute("begin exclusive")
        swept = sweep(
            "sweep.sampler=random", "sweep.trials=2", "seed=0,1", f"sweep.storage='sqlite:///{tmp_path}/studies.db'"
        )
        held.execute("rollback")
    held.close()
    assert swept.code == 2, swept.err
    assert "sweep.storage" in swept.err
    assert "studies.db" in swept.err
    assert "Traceback" not in swept.err + swept.out
    assert not list(swept.path.glob("runs/*"))


def test_a_storage_that_cannot_be_reached_is_named(sweep: Sweep, tmp_path: Path):
    swept = sweep("sweep.sampler=random", "sweep.trials=2", "seed=0,1", f"sweep.storage='sqlite:///{tmp_path}/no/a.db'")
    assert swept.code == 2, swept.err
    assert "sweep.storage" in swept.err
    assert len(swept.err.strip().splitlines()) <= 3


@pytest.mark.full
def test_the_study_of_another_space_in_a_shared_storage_is_left_alone(sweep: Sweep, tmp_path: Path):
    shared = (
        "sweep.sampler=random",
        "sweep.trials=1",
        "sweep.name=mine",
        f"sweep.storage='sqlite:///{tmp_path}/all.db'",
    )
    assert sweep(*shared, "seed=0,1").code == 0
    # Somebody else's runs_dir, and the same name.
    swept = sweep(*shared, "optimizer=adam,sgd", f"runs_dir={tmp_path}/others")
    assert swept.code == 2, swept.err
    assert "mine" in swept.err
    assert len(swept.err.strip().splitlines()) <= 3


@pytest.fixture
def misfortune(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, Exception]], list[int]]:
    """Runs with some seeds end as told, after their folder was made; the seeds of all runs that were begun."""
    from ft.jobs import run as room

    fit = room.fit

    def bring(ends: dict[int, Exception]) -> list[int]:
        begun: list[int] = []

        def unlucky(run: Any, **arguments: Any) -> float | None:
            begun.append(run.config["seed"])
            if run.config["seed"] in ends:
                raise ends[run.config["seed"]]
            return fit(run, **arguments)

        monkeypatch.setattr(room, "fit", unlucky)
        return begun

    return bring


def test_what_happens_to_one_trial_is_written_down_and_the_others_finish(sweep: Sweep, misfortune):
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    begun = misfortune({1: RuntimeError("the plug was pulled"), 2: full})
    swept = sweep("seed=0,1,2,3", "sweep.retries=1")
    assert swept.code == 3
    assert [row["state"] for row in swept.rows] == ["finished", "failed", "failed", "finished"]
    jobs = [row["jobs"][0] for row in swept.rows]
    assert [job["why"] for job in jobs] == ["", "raised", "out of memory", ""]
    assert jobs[1]["message"] == "the plug was pulled"
    assert jobs[2]["message"].startswith("CUDA out of memory")
    assert [job["attempts"] for job in jobs] == [1, 2, 2, 1]
    assert begun == [0, 1, 1, 2, 2, 3]
    for job, kind in ((jobs[1], "RuntimeError"), (jobs[2], "OutOfMemoryError")):
        assert kind in (swept.path / "jobs" / job["key"] / "traceback.txt").read_text(encoding="utf-8")
    assert [row["value"] is None for row in swept.rows] == [False, True, True, False]
    assert "failed 1 time: the plug was pulled" in swept.out
    assert "failed 1 time: CUDA out of memory" in swept.out
    assert not list(swept.path.rglob(".*.new")), "nothing is half-written"


def test_a_run_whose_metric_is_no_number_has_failed(sweep: Sweep):
    swept = sweep("optimizer=sgd", "optimizer.lr=1e-3,1e30", "task.metric=val/loss", "task.mode=min")
    assert swept.code == 3
    assert [row["state"] for row in swept.rows] == ["finished", "failed"]
    job = swept.rows[1]["jobs"][0]
    assert (job["why"], job["attempts"]) == ("not a number", 1), "another attempt would only repeat it"
    assert "the training loss is not a finite number" in job["message"]
    # Text that is no JSON, NaN, would be refused by other readers of this file.
    assert "NaN" not in (swept.path / "trials.json").read_text(encoding="utf-8")


@pytest.mark.full
def test_an_optuna_study_outlives_failures(sweep: Sweep, misfortune):
    misfortune({1: MemoryError("no more")})
    swept = sweep("seed=0,1", "sweep.sampler=random", "sweep.trials=3", "sweep.retries=0")
    assert swept.code == 3
    assert {row["state"] for row in swept.rows} == {"finished", "failed"}
    for row in swept.rows:
        assert (row["state"] == "failed") == (row["params"]["seed"] == 1)
        assert row["jobs"][0]["why"] == ("out of memory" if row["params"]["seed"] == 1 else "")


@pytest.mark.full
def test_failed_runs_are_tried_again_by_the_same_command(sweep: Sweep, misfortune):
    misfortune({1: RuntimeError("the plug was pulled")})
    assert sweep("seed=0,1", "sweep.retries=0").code == 3
    begun = misfortune({})
    again = sweep("seed=0,1", "sweep.retries=1")
    assert again.code == 0, again.rows
    assert begun == [1], "what is finished is left alone"
    assert [row["state"] for row in again.rows] == ["finished", "finished"]


def test_when_every_trial_fails_the_reason_is_told_once(sweep: Sweep, misfortune):
    misfortune(dict.fromkeys(range(3), RuntimeError("the plug was pulled")))
    swept = sweep("seed=0,1,2", "sweep.retries=0")
    assert swept.code == 1
    assert {row["state"] for row in swept.rows} == {"failed"}
    said = swept.out + swept.err
    # With the first trial, and in the last line, which counts.
    assert said.count("the plug was pulled") == 2, said
    assert "failed 3 times: the plug was pulled" in said
    assert "Traceback" not in said
