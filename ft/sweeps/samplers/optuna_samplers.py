"""Optuna's samplers, each proposal drawn anew from (seed, trial number): nothing is remembered between two of them.

random   every value as likely as the others
tpe      near values that went well, all parameters together. Bergstra et al. 2011, arXiv:2304.11127
gp       where a Gaussian process expects the best; for few and costly trials. arXiv:1807.02811
cmaes    a normal distribution that moves and turns; only numbers that every trial has. arXiv:1604.00772
nsga2    crosses the best of a generation; for several metrics. Deb et al. 2002, doi:10.1109/4235.996017
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from ft.errors import require_extra


def make_sampler(name: str, *, trials: int, pruned: bool, conditions: bool, seed: int) -> BaseSampler:
    """A sampler that a process which goes on shares with the one that was killed.

    Args:
        name: Of ``searchable.SAMPLERS``, without the grid.
        trials: How many there will be: of few, fewer are drawn blindly first.
        pruned: Whether trials are ended early.
        conditions: Whether some parameters are not there in every trial.
        seed: Of all draws.

    Raises:
        UserError: A package is missing.
    """
    blind = min(10, max(3, trials // 3))

    def make(seed: int) -> BaseSampler:
        if name == "tpe":
            # The whole configuration at a time; where parameters come and go, those that occur together.
            return TPESampler(
                seed=seed, n_startup_trials=blind, multivariate=True, group=conditions, constant_liar=True
            )
        if name == "gp":
            return Gp(seed=seed, n_startup_trials=blind, warn_independent_sampling=False)
        if name == "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False, consider_pruned_trials=pruned)
        if name == "nsga2":
            # At least four generations; Optuna's own 50 trials a generation are for thousands of them.
            return Nsga2(seed=seed, population_size=min(50, max(4, trials // 4)))
        return RandomSampler(seed=seed)

    if name == "cmaes":
        require_extra("cmaes", "sweep", "sweep.sampler=cmaes")
    return Reseeded(make, seed)


class Gp(GPSampler):
    """Without itself among the trials that run.

    Optuna (5.0) takes a trial whose process was killed after its draw for another one, and keeps away from it.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        others = copy(study)

        def get_trials(*args: Any, **arguments: Any) -> list[FrozenTrial]:
            return [each for each in study._get_trials(*args, **arguments) if each.number != trial.number]

        others._get_trials = get_trials
        return super().sample_relative(others, trial, search_space)


class Nsga2(NSGAIISampler):
    """Parents in the order of their numbers.

    Optuna (5.0) returns them as selected when they are selected, and by number whenever they are looked up later: a
    process that was killed in between would cross other pairs.
    """

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().get_parent_population(study, generation), key=lambda trial: trial.number)


class Reseeded(BaseSampler):
    """Another sampler, made anew for each trial from (seed, trial number).

    A value that is drawn by itself depends on (seed, trial number, key): where a process was killed among the draws of
    a trial, those that are left come out as they would have.

    Args:
        make: From a seed to a sampler.
        seed: Of all draws.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make = make
        self.seed = seed
        self._of_trial: BaseSampler = self._fresh(0, "")

    def _fresh(self, number: int, key: str) -> BaseSampler:
        digest = hashlib.sha256(f"{self.seed} {number} {key}".encode()).digest()
        with warnings.catch_warnings():
            # That an argument may change with a later Optuna is for constraints.txt to know.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self.make(int.from_bytes(digest[:4], "big"))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        # Some remember what they infer here for the draw that follows.
        self._of_trial = self._fresh(trial.number, "")
        return self._of_trial.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of_trial.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._fresh(trial.number, param_name).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._fresh(trial.number, "").before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._fresh(trial.number, "").after_trial(study, trial, state, values)
