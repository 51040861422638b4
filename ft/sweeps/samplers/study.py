"""An Optuna study as a source of proposals; killed at any moment, it goes on with the proposals it would have made.

    ask ->  trial 7 is written down  ->  its values are drawn, one after the other  ->  runs  ->  tell
             a process that is killed anywhere here leaves trial 7 open: the next one asks for it first

What has ended is proposed once more too, before everything else, for those who keep books by number.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection as Direction
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ft.errors import UserError
from ft.job_folder import FAILED, FINISHED, PRUNED
from ft.sweeps.samplers.optuna_samplers import make_sampler
from ft.sweeps.samplers.proposals import Proposal
from ft.sweeps.samplers.searchable import refuse_unsearchable
from ft.sweeps.space.overrides import as_text
from ft.sweeps.space.parameters import CHOICE, INT, Parameter, Space
from ft.trial_storage import open_storage, refusal

STATES = {FINISHED: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
# Of sweep.trials=null.
DEFAULT_TRIALS = 20
# Seconds to wait for runs that report at the same time; each takes milliseconds.
PATIENCE = 5.0


class Study:
    """Proposals of an Optuna sampler, kept in an Optuna storage.

    Args:
        space: What is searched.
        sampler: ``random``, ``tpe``, ``gp``, ``cmaes`` or ``nsga2``.
        pruner: ``none``, ``median``, ``asha`` or ``hyperband``.
        pruner_warmup: Validations of a run before it may be pruned.
        metrics: Name to ``max`` or ``min``.
        trials: How many in all; ``None``: 20.
        seed: Of all draws.
        storage: An Optuna storage URL.
        name: Of the study in it.
        seeds: Runs a trial.

    Raises:
        UserError: The space cannot be searched this way, a package is missing, the storage cannot be opened, or holds
            another study of this name.
    """

    def __init__(
        self,
        space: Space,
        *,
        sampler: str,
        pruner: str,
        pruner_warmup: int,
        metrics: Mapping[str, str],
        trials: int | None,
        seed: int,
        storage: str,
        name: str,
        seeds: int = 1,
    ) -> None:
        refuse_unsearchable(space, sampler=sampler, pruner=pruner, metrics=list(metrics))
        self.space = space
        self.total: int = trials or DEFAULT_TRIALS
        conditions = any(parameter.when for parameter in space.parameters)
        draws = make_sampler(sampler, trials=self.total, pruned=pruner != "none", conditions=conditions, seed=seed)
        self.study = _open(storage, name, draws, metrics, space)
        metric, mode = next(iter(metrics.items()))
        self._told = {
            "storage": storage,
            "study": name,
            "metric": metric,
            "mode": mode,
            "pruner": {"name": pruner, "warmup": pruner_warmup, "seeds": seeds},
        } if pruner != "none" else {}  # fmt: skip
        known = self.study.get_trials(deepcopy=False)
        self._ended = [trial for trial in known if trial.state.is_finished()]
        self._begun = [trial for trial in known if not trial.state.is_finished()]
        self._left = self.total - len(self._ended)

    def ask(self, count: int) -> list[Proposal]:
        """Up to ``count`` that have not ended, those that a killed process has left first; empty: no more.

        The first call returns those that have ended too, before the others.
        """
        proposals = [self._proposal(trial.number, self._drawn(trial)) for trial in self._ended]
        self._ended = []
        for _ in range(min(count, self._left)):
            trial = Trial(self.study, self._begun.pop(0)._trial_id) if self._begun else self.study.ask()
            self._left -= 1
            proposals.append(self._proposal(trial.number, self._draw(trial)))
        return proposals

    def tell(self, number: int, state: str, values: Sequence[float]) -> None:
        """What came of one; of one that has ended already, nothing changes.

        Args:
            number: Of the proposal.
            state: ``finished``, ``pruned`` or ``failed``.
            values: Of the metrics, in order, where it is finished; one that is no number makes it a failure.
        """
        if state == FINISHED and any(math.isnan(value) for value in values):
            state = FAILED
        self.study.tell(number, list(values) if state == FINISHED else None, state=STATES[state], skip_if_finished=True)

    def _proposal(self, number: int, params: Mapping[str, Any]) -> Proposal:
        return Proposal(number, params, {**self._told, "number": number} if self._told else {})

    def _draw(self, trial: Trial) -> dict[str, Any]:
        """Values for all parameters; those that were drawn already stay."""
        params: dict[str, Any] = {}
        for parameter in self.space.active(params):
            params[parameter.key] = _draw(trial, parameter, self.space.name(parameter))
        return params

    def _drawn(self, trial: FrozenTrial) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for parameter in self.space.active(params):
            name = self.space.name(parameter)
            if name in trial.params:
                params[parameter.key] = _value(parameter, trial.params[name])
        return params


def _draw(trial: Trial, parameter: Parameter, name: str) -> Any:
    if parameter.kind == CHOICE:
        return _value(parameter, trial.suggest_categorical(name, _kept(parameter)))
    low: Any = parameter.low
    high: Any = parameter.high
    step: Any = parameter.step
    if parameter.kind == INT:
        return trial.suggest_int(name, low, high, step=step or 1, log=parameter.log)
    return trial.suggest_float(name, low, high, step=step, log=parameter.log)


def _kept(parameter: Parameter) -> list[Any]:
    """Choices as a storage can hold them: themselves where they are plain and no two are equal, else as text."""
    plain = all(value is None or isinstance(value, str | int | float) for value in parameter.choices)
    if plain and len(set(parameter.choices)) == len(parameter.choices):
        return list(parameter.choices)
    return list(map(as_text, parameter.choices))


def _value(parameter: Parameter, kept: Any) -> Any:
    return parameter.choices[_kept(parameter).index(kept)] if parameter.kind == CHOICE else kept


def _open(
    url: str, name: str, sampler: optuna.samplers.BaseSampler, metrics: Mapping[str, str], space: Space
) -> optuna.Study:
    directions = [Direction.MAXIMIZE if mode == "max" else Direction.MINIMIZE for mode in metrics.values()]
    asked = {"space": space.texts(), "metrics": dict(metrics)}
    storage = open_storage(url, patience=PATIENCE)
    try:
        study = optuna.create_study(
            storage=storage, sampler=sampler, pruner=optuna.pruners.NopPruner(), study_name=name,
            directions=directions, load_if_exists=True,
        )  # fmt: skip
        known = study.user_attrs.get("asked")
        if known is None and not study.get_trials(deepcopy=False):
            study.set_user_attr("asked", asked)
            known = asked
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(refusal(url, error)) from None
    if known != asked or study.directions != directions:
        what = "metrics" if known is not None and known["space"] == asked["space"] else "space"
        raise UserError(
            f"sweep.storage already has a study {name} with another {what}: choose another sweep.name or sweep.storage."
        )
    return study
