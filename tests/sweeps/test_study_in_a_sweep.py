"""A study and the ledger of jobs: whatever one of them knows, the other comes to know."""

from collections.abc import Callable

import optuna
import pytest
from optuna.trial import TrialState

from ft.sweeps.samplers.study import Study
from ft.trial_storage import open_storage
from tests.sweeps.conftest import Swept

Sweep = Callable[..., Swept]
WORDS = ("sweep.sampler=tpe", "sweep.trials=3", "optimizer.lr=interval(0.001,0.01)", "sweep.name=mine")


class Killed(Exception):
    """Nothing of ft's catches this."""


@pytest.mark.full
def test_what_a_killed_process_has_run_but_not_told_is_told_by_the_next(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    tell = Study.tell

    def killed(self: Study, number: int, state: str, values: list[float]) -> None:
        if number == 1:
            raise Killed
        tell(self, number, state, values)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", killed)
        with pytest.raises(Killed):
            sweep(*WORDS)
    swept = sweep(*WORDS)
    assert swept.code == 0
    assert [(row["number"], row["state"]) for row in swept.rows] == [(at, "finished") for at in range(3)]
    storage = open_storage(f"sqlite:///{swept.path}/study.db", patience=5.0)
    known = optuna.load_study(study_name="mine", storage=storage).trials
    assert [trial.state for trial in known] == [TrialState.COMPLETE] * 3
    assert [trial.value for trial in known] == [row["value"] for row in swept.rows]
    assert all(len(list(swept.path.glob(f"runs/{at:03d}_*"))) == 1 for at in range(3))


def test_the_pruner_knows_how_many_runs_a_trial_has(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def remember(self: Study, space: object, **arguments: object) -> None:
        asked.append(arguments)
        raise Killed

    monkeypatch.setattr(Study, "__init__", remember)
    with pytest.raises(Killed):
        sweep(*WORDS, "sweep.pruner=hyperband", "sweep.seeds=2")
    assert [(each["seeds"], each["pruner"]) for each in asked] == [(2, "hyperband")]
