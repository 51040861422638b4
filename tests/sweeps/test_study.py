"""The Optuna study: it proposes the same whether or not its process was killed, and keeps what it is told."""

import itertools
import logging
import math
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.engine
import sqlalchemy.event
from optuna.trial import TrialState

from ft.errors import UserError
from ft.sweeps.samplers.optuna_samplers import Reseeded
from ft.sweeps.samplers.study import Study
from ft.sweeps.space.parameters import Parameter, Space
from ft.trial_storage import open_storage

SPACE = Space(
    (
        Parameter("optimizer", "choice", choices=("adam", "sgd", None)),
        Parameter("lr", "float", low=1e-4, high=1e-1, log=True),
        Parameter("width", "int", low=1, high=64, log=True),
        Parameter("rate", "float", low=0.0, high=0.4, step=0.1),
        Parameter("momentum", "float", low=0.0, high=1.0, when={"optimizer": ("sgd",)}),
        Parameter("hidden", "choice", choices=([], [256], [64, 32])),
    )
)
TRIALS = 10
NUMBERS = itertools.count()


@pytest.fixture(autouse=True, scope="module")
def unsynchronised() -> Iterator[None]:
    """SQLite does not wait for the disk: only the power can fail now, and most of a test's time was that."""

    def connected(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", connected)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", connected)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a storage: all its tables are made once."""
    return f"sqlite:///{tmp_path_factory.mktemp('storage')}/studies.db"


def study(url: str, name: str, **others: Any) -> Study:
    usual = {
        "sampler": "random",
        "pruner": "none",
        "pruner_warmup": 1,
        "metrics": {"val/acc": "max"},
        "trials": TRIALS,
        "seed": 3,
    }
    return Study(others.pop("space", SPACE), **{**usual, "storage": url, "name": name, **others})


def new_name() -> str:
    return f"study {next(NUMBERS)}"


def value_of(params: Mapping[str, Any]) -> float:
    """Something to climb."""
    return 1 - abs(math.log10(params["lr"]) + 2) / 4 - params["rate"] + len(params["hidden"]) / 10


def go_on(source: Study, *, at_most: int = 100) -> dict[int, dict[str, Any]]:
    """Asks and tells, one after the other."""
    found: dict[int, dict[str, Any]] = {}
    while len(found) < at_most and (asked := source.ask(1)):
        for proposal in asked:
            found[proposal.number] = dict(proposal.params)
            source.tell(proposal.number, "finished", [value_of(proposal.params)])
    return found


class Killed(Exception):
    """Nothing of the study's catches this."""


@pytest.mark.full
@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cmaes", "nsga2"])
def test_a_study_that_was_killed_proposes_what_it_would_have_proposed(
    url: str, sampler: str, monkeypatch: pytest.MonkeyPatch
):
    whole = go_on(study(url, new_name(), sampler=sampler))
    assert sorted(whole) == list(range(TRIALS))
    assert len({str(params) for params in whole.values()}) > TRIALS // 2

    name = new_name()
    assert go_on(study(url, name, sampler=sampler), at_most=3) == {at: whole[at] for at in range(3)}
    # Killed before a trial's first value is drawn, then among its values, then when all are drawn but nothing is told.
    suggest = optuna.trial.Trial._suggest
    for drawn in (0, 2, 99):
        calls = itertools.count()

        def killed(self: Any, key: str, distribution: Any, calls: Any = calls, drawn: int = drawn) -> Any:
            if next(calls) == drawn:
                raise Killed
            return suggest(self, key, distribution)

        source = study(url, name, sampler=sampler)
        first = source.ask(0)
        monkeypatch.setattr(optuna.trial.Trial, "_suggest", killed)
        try:
            (proposal,) = source.ask(1)
        except Killed:
            assert drawn < 99
        else:
            assert drawn == 99
            assert dict(proposal.params) == whole[proposal.number]
        monkeypatch.setattr(optuna.trial.Trial, "_suggest", suggest)
        # Those that have ended are there again, for whoever keeps books.
        assert {each.number: each.params for each in first} == {at: whole[at] for at in range(len(first))}
        go_on(study(url, name, sampler=sampler), at_most=len(first) + 2)
    assert go_on(study(url, name, sampler=sampler)) == whole


def test_what_was_begun_is_asked_for_first_and_every_trial_once(url: str):
    name = new_name()
    first = study(url, name, trials=5)
    begun = first.ask(3)
    assert [proposal.number for proposal in begun] == [0, 1, 2]
    first.tell(1, "failed", [])
    second = study(url, name, trials=5)
    assert [proposal.number for proposal in second.ask(1)] == [1, 0]
    second.tell(1, "finished", [0.5])
    assert second.study.trials[1].state is TrialState.FAIL, "what has ended stays as it is"
    assert second.ask(9) == [begun[2], *second.ask(0), *_of(second, 3, 4)]
    assert second.ask(1) == []
    # More trials may be asked for later.
    more = study(url, name, trials=6)
    assert [proposal.number for proposal in more.ask(9)] == [1, 0, 2, 3, 4, 5]
    # Or fewer: what is left of the others is not begun again.
    fewer = study(url, name, trials=2)
    assert [proposal.number for proposal in fewer.ask(9)] == [1, 0]


def _of(source: Study, *numbers: int) -> list[Any]:
    known = source.study.get_trials()
    return [source._proposal(number, source._drawn(known[number])) for number in numbers]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cmaes", "nsga2"])
def test_values_are_of_the_space_with_their_types(url: str, sampler: str):
    for params in go_on(study(url, new_name(), sampler=sampler, trials=6)).values():
        assert params["optimizer"] in ("adam", "sgd", None)
        assert 1e-4 <= params["lr"] <= 1e-1
        assert isinstance(params["width"], int)
        assert 1 <= params["width"] <= 64
        assert params["rate"] == pytest.approx(round(params["rate"], 1))
        assert params["hidden"] in ([], [256], [64, 32])
        assert ("momentum" in params) == (params["optimizer"] == "sgd")
        assert list(params) == [parameter.key for parameter in SPACE.active(params)]


def test_choices_that_are_equal_for_python_are_kept_apart(url: str):
    space = Space((Parameter("a", "choice", choices=(True, 1, 1.0, "1", "true", None, "null")),))
    found = go_on_values(study(url, new_name(), space=space, trials=40))
    assert {(type(value), value) for value in found} == {(type(each), each) for each in space.parameters[0].choices}


def go_on_values(source: Study) -> list[Any]:
    return [proposal.params["a"] for proposal in source.ask(100)]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_a_key_with_two_ranges_is_drawn_from_the_one_that_holds(url: str, sampler: str):
    space = Space(
        (
            Parameter("optimizer", "choice", choices=("adam", "sgd")),
            Parameter("lr", "float", low=1e-4, high=1e-2, log=True, when={"optimizer": ("adam",)}),
            Parameter("lr", "float", low=1e-1, high=1.0, log=True, when={"optimizer": ("sgd",)}),
        )
    )
    name = new_name()
    source = study(url, name, space=space, sampler=sampler)
    while asked := source.ask(1):
        lr = asked[0].params["lr"]
        assert 1e-4 <= lr <= 1e-2 if asked[0].params["optimizer"] == "adam" else 1e-1 <= lr <= 1.0
        source.tell(asked[0].number, "finished", [-lr])
    assert [each.params for each in study(url, name, space=space, sampler=sampler).ask(0)] == [
        {"optimizer": trial.params["optimizer"], "lr": next(v for key, v in trial.params.items() if "lr" in key)}
        for trial in source.study.trials
    ]


def test_the_seed_decides(url: str):
    one, same, other = (go_on(study(url, new_name(), seed=seed, trials=4)) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_trials_that_run_side_by_side_differ(url: str):
    source = study(url, new_name(), sampler="tpe", trials=20)
    go_on(source, at_most=10)
    asked = source.ask(4)
    assert len({str(proposal.params) for proposal in asked}) == 4


def test_tpe_finds_better_than_random(url: str):
    def best(sampler: str) -> float:
        space = Space(tuple(Parameter(key, "float", low=-5.0, high=5.0) for key in "ab"))
        source = study(url, new_name(), space=space, sampler=sampler, trials=40, seed=0)
        values = []
        while asked := source.ask(1):
            values.append(-sum((value - 2) ** 2 for value in asked[0].params.values()))
            source.tell(asked[0].number, "finished", [values[-1]])
        return max(values)

    assert best("tpe") > best("random")


def test_states_and_values_are_kept(url: str):
    name = new_name()
    source = study(url, name)
    numbers = [proposal.number for proposal in source.ask(4)]
    source.tell(numbers[0], "finished", [0.5])
    source.tell(numbers[1], "failed", [])
    source.tell(numbers[2], "pruned", [])
    source.tell(numbers[3], "finished", [math.nan])
    states = [trial.state for trial in source.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.FAIL]
    assert source.study.best_value == 0.5
    assert source.study.direction is optuna.study.StudyDirection.MAXIMIZE


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "nsga2"])
def test_several_metrics(url: str, sampler: str):
    source = study(url, new_name(), sampler=sampler, metrics={"val/acc": "max", "seconds": "min"}, trials=6)
    while asked := source.ask(1):
        source.tell(asked[0].number, "finished", [value_of(asked[0].params), float(asked[0].params["width"])])
    assert [each.name for each in source.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert len(source.study.trials) == 6
    assert source.study.best_trials


def test_a_run_is_told_how_to_reach_its_trial_where_it_may_be_pruned(url: str):
    assert study(url, new_name()).ask(1)[0].trial == {}
    name = new_name()
    metrics = {"val/mae": "min"}
    (proposal,) = study(url, name, pruner="asha", pruner_warmup=2, metrics=metrics, seeds=3).ask(1)
    assert proposal.trial == {
        "storage": url,
        "study": name,
        "number": 0,
        "metric": "val/mae",
        "mode": "min",
        "pruner": {"name": "asha", "warmup": 2, "seeds": 3},
    }


def test_nothing_is_printed_and_nothing_warned(url: str, capfd: pytest.CaptureFixture[str]):
    logging.getLogger("alembic").setLevel(logging.NOTSET)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for sampler in ("tpe", "cmaes"):
            go_on(study(url, new_name(), sampler=sampler, pruner="median", trials=5))
    assert [str(each.message) for each in caught] == []
    assert capfd.readouterr() == ("", "")


def test_draws_in_between_change_nothing():
    fresh = Reseeded(lambda seed: optuna.samplers.RandomSampler(seed=seed), 0)
    used = Reseeded(lambda seed: optuna.samplers.RandomSampler(seed=seed), 0)
    unit = optuna.distributions.FloatDistribution(0.0, 1.0)
    trial = optuna.trial.create_trial(value=0.0)
    a = used.sample_independent(None, trial, "a", unit)
    b = used.sample_independent(None, trial, "b", unit)
    assert a != b
    assert fresh.sample_independent(None, trial, "b", unit) == b


ALONE = Space((SPACE.parameters[0], SPACE.parameters[1]))
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "sampler": ({"sampler": "tpee"}, "sweep.sampler=tpee is not a choice: .* Did you mean tpe"),
    "pruner": ({"pruner": "medain"}, "sweep.pruner=medain is not a choice: .* Did you mean median"),
    "nothing to search": ({"space": Space()}, "sweep.sampler=random has nothing to search"),
    "pruning by two metrics": (
        {"pruner": "median", "metrics": {"val/acc": "max", "seconds": "min"}},
        "sweep.pruner=median goes by one metric, and sweep.metrics has val/acc, seconds: set sweep.pruner=none",
    ),
    "cmaes and two metrics": (
        {"sampler": "cmaes", "metrics": {"val/acc": "max", "seconds": "min"}},
        "sweep.sampler=cmaes goes by one metric",
    ),
    "cmaes and one number": ({"sampler": "cmaes", "space": ALONE}, "the space has lr: set sweep.sampler=tpe"),
    "no URL": ({"storage": "study.db"}, "sweep.storage=study.db cannot be used: Could not parse"),
    "no folder": ({"storage": "sqlite:////nowhere/study.db"}, "cannot be used: unable to open database file"),
    "no driver": (
        {"storage": "nosuch://me:secret@host/db"},
        r"sweep.storage=nosuch://me:\*\*\*@host/db cannot be used",
    ),
}


@pytest.mark.parametrize(("given", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_searched_is_refused(url: str, given: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told) as caught:
        study(given.pop("storage", url), new_name(), **given)
    assert len(str(caught.value).splitlines()) <= 3
    assert "secret" not in str(caught.value)


def test_a_package_that_is_missing_is_named(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ft.errors.find_spec", lambda name: None if name == "cmaes" else object())
    with pytest.raises(UserError, match=r"sweep.sampler=cmaes needs cmaes: .*\[sweep\]"):
        study(url, new_name(), sampler="cmaes")


def test_another_study_of_the_same_name_is_left_alone(url: str):
    name = new_name()
    go_on(study(url, name, trials=2))
    with pytest.raises(UserError, match=f"already has a study {name} with another space: choose another sweep.name"):
        study(url, name, space=ALONE)
    with pytest.raises(UserError, match=f"already has a study {name} with another metrics"):
        study(url, name, metrics={"val/acc": "min"})
    optuna.create_study(storage=url, study_name="theirs").ask()
    with pytest.raises(UserError, match="already has a study theirs"):
        study(url, "theirs", metrics={"val/acc": "min"})
    assert len(study(url, name, trials=2).study.trials) == 2


def test_a_storage_has_its_name_only_once_it_is_whole(tmp_path: Path):
    # Optuna makes an index after its table, and never looks for it again where the table is there.
    class Killed(BaseException):
        pass

    def die(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "CREATE UNIQUE INDEX" in statement:
            raise Killed

    url = f"sqlite:///{tmp_path}/study.db"
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", die)
    try:
        with pytest.raises(Killed):
            open_storage(url, patience=1)
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", die)
    assert not list(tmp_path.iterdir())
    open_storage(url, patience=1)
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


SCRIPT = """
import sys, time
from tests.sweeps.test_study import go_on, study
print("imported", flush=True)
source = study(sys.argv[1], "killed", sampler="tpe", trials=40)
go_on(source)
"""


@pytest.mark.full
def test_a_storage_survives_a_process_that_is_killed_anywhere(tmp_path: Path):
    # From the making of its tables on.
    url = f"sqlite:///{tmp_path}/study.db"
    for delay in (0.0, 0.05, 0.2, 0.5, 0.8, 1.2, 1.7, 2.5):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"imported\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    resumed = go_on(study(url, "killed", sampler="tpe", trials=40))
    whole = go_on(study(url, "whole", sampler="tpe", trials=40))
    assert resumed == whole
