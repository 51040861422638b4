"""Pruning: what a run tells the study, and when the study ends it."""

import csv
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy

from ft.build.run import Run, build
from ft.errors import UserError
from ft.fit import fit
from ft.jobs.pruners import make_pruner
from ft.jobs.pruning import Pruning, best_so_far
from ft.run_folder import RunFolder
from ft.trial_storage import open_storage
from tests.conftest import TINY, Killed, StopIn, composed

EPOCHS = 4
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


class Sweep:
    """A study with finished trials, each as good at every epoch, and one trial that is open."""

    def __init__(self, url: str, *, value: float, seeds: int = 1, others: int = 5) -> None:
        self.url = url
        self.name = f"study {next(NUMBERS)}"
        self.study = optuna.create_study(
            storage=open_storage(self.url, patience=5.0), study_name=self.name, direction="maximize"
        )
        values = dict.fromkeys(range(1, seeds * EPOCHS + 1), value)
        self.study.add_trials([optuna.trial.create_trial(value=value, intermediate_values=values)] * others)
        self.number = self.study.ask().number

    def told(self, *, warmup: int = 1, **others: Any) -> dict[str, Any]:
        pruner = {"name": "median", "warmup": warmup, "seeds": 1}
        common = {"storage": self.url, "study": self.name, "number": self.number, "metric": "val/acc", "mode": "max"}
        return {**common, "pruner": pruner, **others}

    def reports(self) -> dict[int, float]:
        return self.study.get_trials()[self.number].intermediate_values


def trainer(**others: Any) -> SimpleNamespace:
    """What of Lightning's trainer the callback looks at."""
    usual = {
        "is_global_zero": True,
        "max_epochs": EPOCHS,
        "check_val_every_n_epoch": 1,
        "current_epoch": 0,
    }
    states = {"sanity_checking": False, "is_last_batch": True, "should_stop": False, "callback_metrics": {}}
    batches = {"num_training_batches": 8, "val_check_batch": 8, "fit_loop": SimpleNamespace(batch_idx=7)}
    strategy = SimpleNamespace(broadcast=lambda mine: mine)
    return SimpleNamespace(**{**usual, **states, **batches, "strategy": strategy, **others})


def play(trial: Mapping[str, Any], values: Sequence[float], *, every: int = 1) -> Pruning:
    """Validations with these values, an epoch each, until the run is ended."""
    pruning, lightning = Pruning(trial), trainer(check_val_every_n_epoch=every)
    pruning.on_fit_start(lightning, None)
    for epoch in range(every - 1, EPOCHS, every):
        lightning.current_epoch, lightning.callback_metrics = epoch, {"val/acc": values[epoch]}
        pruning.on_validation_end(lightning, None)
        if lightning.should_stop:
            break
    assert pruning.pruned == lightning.should_stop
    return pruning


def train(trial: Mapping[str, Any], place: Path, *callbacks: Any, words: Sequence[str] = ()) -> tuple[Run, Pruning]:
    pruning = Pruning(trial)
    with composed(*TINY, f"trainer.max_epochs={EPOCHS}", "test=false", "data.num_images=16", *words) as config:
        run = build(config, place=RunFolder(place), callbacks=[*callbacks, pruning])
    fit(run, started=0.0)
    return run, pruning


def accuracies(place: Path) -> list[float]:
    with (place / "metrics.csv").open() as file:
        return [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]


def best(values: list[float]) -> list[float]:
    return [max(values[: at + 1]) for at in range(len(values))]


def test_what_is_reported_is_the_best_so_far_averaged_with_the_earlier_seeds():
    assert best_so_far(0.5, before=[], earlier=[], mode="max") == 0.5
    assert best_so_far(0.5, before=[], earlier=[0.7, 0.6], mode="max") == 0.7
    assert best_so_far(0.5, before=[0.9, 0.7], earlier=[0.65], mode="max") == pytest.approx(0.7)
    assert best_so_far(0.5, before=[0.9], earlier=[0.6], mode="min") == 0.6
    assert best_so_far(math.nan, before=[], earlier=[0.3], mode="max") == 0.3
    assert math.isnan(best_so_far(math.nan, before=[0.5], earlier=[], mode="max"))


def test_a_hopeless_run_ends_and_leaves_its_checkpoints(tmp_path: Path, url: str):
    sweep = Sweep(url, value=2.0)
    run, pruning = train(sweep.told(), tmp_path / "run")
    found = accuracies(run.folder.path)
    assert len(found) == 2
    assert pruning.pruned
    assert sweep.reports() == pytest.approx(dict(enumerate(best(found), 1)))
    assert run.folder.last.is_dir()
    assert run.folder.best.is_dir()


def test_a_run_that_was_killed_reports_what_is_missing(tmp_path: Path, url: str):
    sweep = Sweep(url, value=0.0)
    with pytest.raises(Killed):
        train(sweep.told(), tmp_path / "run", StopIn(epoch=2, batch=None))
    assert sorted(sweep.reports()) == [1, 2]
    run, pruning = train(sweep.told(), tmp_path / "run")
    assert run.resumed
    assert not pruning.pruned
    assert sweep.reports() == pytest.approx(dict(enumerate(best(accuracies(run.folder.path)), 1)))


@pytest.mark.parametrize(("warmup", "epochs"), [(0, 1), (1, 2), (2, 3), (EPOCHS, EPOCHS)])
def test_so_many_validations_are_granted(url: str, warmup: int, epochs: int):
    sweep = Sweep(url, value=0.9)
    pruning = play(sweep.told(warmup=warmup), [0.1] * EPOCHS)
    assert len(sweep.reports()) == epochs
    assert pruning.pruned == (epochs < EPOCHS or warmup < EPOCHS)


def test_validations_are_counted_and_not_epochs(url: str):
    sweep = Sweep(url, value=0.9)
    assert not play(sweep.told(warmup=2), [0.1] * EPOCHS, every=2).pruned
    assert sweep.reports() == {2: 0.1, 4: 0.1}


def test_validations_inside_an_epoch_are_steps_too(tmp_path: Path, url: str):
    # 16 images make 2 batches: a validation after each.
    sweep = Sweep(url, value=2.0)
    run, pruning = train(sweep.told(warmup=0), tmp_path / "run", words=("+trainer.val_check_interval=0.5",))
    assert pruning.pruned
    assert sorted(sweep.reports()) == [1]
    assert run.trainer.global_step == 1, "the other half of the epoch is not trained"
    assert run.folder.best.is_dir()
    calm = Sweep(url, value=-1.0)
    run, pruning = train(calm.told(warmup=0), tmp_path / "calm", words=("+trainer.val_check_interval=0.5",))
    assert not pruning.pruned
    assert sorted(calm.reports()) == list(range(1, 2 * EPOCHS + 1))
    told = calm.reports()
    ends = [max(told[2 * at + 1], value) for at, value in enumerate(accuracies(run.folder.path))]
    assert [told[2 * at + 2] for at in range(EPOCHS)] == pytest.approx(ends)


@pytest.mark.parametrize(("every", "ready", "step"), [(8, 8, 1), (2, 2, 1), (2, 8, 4), (3, 3, 1), (3, 6, 2), (3, 8, 2)])
def test_the_step_of_a_validation_is_its_place_in_the_epoch(url: str, every: int, ready: int, step: int):
    # An interval that does not divide the epoch leaves its last validation out: 3 of 8 batches, after 3 and 6.
    sweep = Sweep(url, value=0.0)
    pruning, lightning = Pruning(sweep.told()), trainer(val_check_batch=every, callback_metrics={"val/acc": 0.5})
    lightning.fit_loop.batch_idx = ready - 1
    pruning.on_fit_start(lightning, None)
    pruning.on_validation_end(lightning, None)
    lightning.current_epoch, in_epoch = 1, 8 // every
    pruning.on_validation_end(lightning, None)
    assert sorted(sweep.reports()) == [step, in_epoch + step]


def test_a_run_that_ends_anyway_is_not_compared_in_the_middle_of_an_epoch(url: str):
    sweep = Sweep(url, value=0.9)
    pruning, lightning = Pruning(sweep.told(warmup=0)), trainer(should_stop=True, is_last_batch=False)
    pruning.on_fit_start(lightning, None)
    pruning.on_validation_end(lightning, None)
    assert not pruning.pruned
    assert sweep.reports() == {}


def test_a_run_is_judged_by_its_best_epoch_so_far(url: str):
    sweep = Sweep(url, value=0.5)
    assert not play(sweep.told(), [0.6, 0.1, 0.1, 0.2]).pruned
    assert sweep.reports() == dict.fromkeys(range(1, EPOCHS + 1), 0.6)


def test_the_run_of_a_later_seed_is_compared_with_later_runs(url: str):
    sweep = Sweep(url, value=0.9, seeds=2)
    pruning = play(sweep.told(before=[0.5]), [0.3, 0.7, 0.7, 0.7])
    assert pruning.pruned
    # Its own first validation is granted too.
    assert sweep.reports() == pytest.approx({EPOCHS + 1: 0.4, EPOCHS + 2: 0.6})


def test_nothing_is_reported_twice(url: str):
    sweep = Sweep(url, value=0.0)
    play(sweep.told(), [0.1, 0.2, 0.3, 0.4])
    # Another attempt, which comes out otherwise: Optuna would warn, and a warning is an error here.
    play(sweep.told(), [0.5, 0.5, 0.5, 0.5])
    assert sweep.reports() == dict(enumerate([0.1, 0.2, 0.3, 0.4], 1))


def test_a_run_that_diverged_is_ended(url: str):
    sweep = Sweep(url, value=0.0)
    assert play(sweep.told(), [math.nan] * EPOCHS).pruned
    assert sweep.reports() == {}
    assert not play(sweep.told(), [0.5, math.nan, math.nan, math.nan]).pruned, "its first epoch is worth something"


def test_a_trial_that_has_ended_is_not_touched(url: str):
    sweep = Sweep(url, value=0.9)
    sweep.study.tell(sweep.number, 0.5)
    assert not play(sweep.told(), [0.1] * EPOCHS).pruned
    assert sweep.reports() == {}


def test_a_metric_that_no_validation_returns_is_told_with_those_that_are(url: str):
    with pytest.raises(UserError, match=r"val/accc, which no validation returns. Did you mean val/acc"):
        play(Sweep(url, value=0.0).told(metric="val/accc"), [0.1] * EPOCHS)


def test_without_a_last_epoch_there_is_nothing_to_compare(url: str):
    with pytest.raises(UserError, match=r"sweep.pruner=median needs a last epoch: set trainer.max_epochs"):
        Pruning(Sweep(url, value=0.0).told()).on_fit_start(trainer(max_epochs=-1), None)


def test_a_process_that_is_not_the_first_obeys_without_a_study():
    pruning = Pruning({"pruner": {"name": "median", "warmup": 0, "seeds": 1}})
    said: list[bool] = []

    def broadcast(mine: bool) -> bool:
        said.append(mine)
        return True

    other = trainer(is_global_zero=False, strategy=SimpleNamespace(broadcast=broadcast), sanity_checking=True)
    pruning.on_fit_start(other, None)
    pruning.on_validation_end(other, None)
    assert (said, other.should_stop) == ([], False), "before the first step nobody is asked"
    other.sanity_checking = False
    pruning.on_validation_end(other, None)
    assert (said, other.should_stop, pruning.pruned) == ([False], True, True)


@pytest.mark.parametrize("name", ["median", "asha", "hyperband"])
def test_every_pruner_ends_the_worse_and_spares_the_best(name: str):
    study = optuna.create_study(direction="maximize", pruner=make_pruner(name, warmup=1, steps=9), study_name="s")

    def steps(value: float) -> int:
        trial = study.ask()
        for step in range(1, 10):
            trial.report(value, step)
            if step > 1 and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return step
        study.tell(trial, value)
        return 9

    good = [steps(1.0 + at / 100) for at in range(12)]
    worse = [steps(0.1 - at / 1000) for at in range(24)]
    assert good == [9] * 12, "each is the best so far"
    # Hyperband grants some of them a later judgement.
    assert sum(worse) <= {"median": 2, "asha": 2, "hyperband": 6}[name] * 24
    assert min(worse) == 2, "the first validation is granted"


def test_a_pruner_that_there_is_not_is_named():
    with pytest.raises(UserError, match=r"sweep.pruner=medain is not a choice: .* Did you mean median"):
        make_pruner("medain", warmup=1, steps=4)
