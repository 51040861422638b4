"""Tells an Optuna study after every validation how a run does, and ends the run when the study's pruner says so.

    step    1  2  3  4 | 5  6  7  8 | ...       4 epochs a run, one run after the other for each seed
    value   best value so far of this run, averaged with what the runs of the earlier seeds ended with

With ``+trainer.val_check_interval=0.25`` there are four validations in every epoch, and a step is a quarter of one.

The best so far and not the last, because the best checkpoint is what a run is judged by: a phase that opens more of the
backbone may begin below where the last one ended.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import Trial

from ft.errors import UserError, did_you_mean
from ft.jobs.pruners import make_pruner
from ft.trial_storage import open_storage

# Seconds to wait for other runs that report at the same time; each takes milliseconds.
PATIENCE = 60.0


class Pruning(Callback):
    """Reports to a study and obeys it.

    What it goes by is in the study: a run that is resumed neither reports an epoch twice nor forgets one.

    Args:
        trial: ``storage`` and ``study`` to reach it, ``number`` of the trial in it, ``metric`` and its ``mode``,
            ``pruner`` (``name``, ``warmup`` in validations, ``seeds``); ``before``: what earlier seeds ended with.

    Attributes:
        pruned: The run was ended.
    """

    def __init__(self, trial: Mapping[str, Any]) -> None:
        self.trial = trial
        self.before: Sequence[float] = trial.get("before", ())
        self.pruned = False
        self._study: optuna.Study | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.max_epochs or 0
        if epochs < 1:
            raise UserError(f"sweep.pruner={self.trial['pruner']['name']} needs a last epoch: set trainer.max_epochs.")
        if trainer.is_global_zero:
            self._study = optuna.load_study(
                study_name=self.trial["study"],
                storage=open_storage(self.trial["storage"], patience=PATIENCE),
                # Nothing is drawn here, and the pruner is made when it is known how many validations an epoch has.
                sampler=RandomSampler(),
                pruner=NopPruner(),
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Nothing before the first step, nor what a run that ends anyway validates in between, can be compared.
        if trainer.sanity_checking or (trainer.should_stop and not trainer.is_last_batch):
            return
        hopeless = self._is_hopeless(trainer) if trainer.is_global_zero else False
        # All processes end after the same epoch.
        if trainer.strategy.broadcast(hopeless):
            self.pruned = True
            trainer.should_stop = True

    def _is_hopeless(self, trainer: Trainer) -> bool:
        assert self._study is not None
        assert trainer.max_epochs is not None
        metric = self.trial["metric"]
        if metric not in trainer.callback_metrics:
            known = sorted(map(str, trainer.callback_metrics))
            raise UserError(
                f"sweep.pruner goes by {metric}, which no validation returns.{did_you_mean(metric, known)}\n"
                f"A validation returns {', '.join(known)}."
            )
        known = self._study.get_trials(deepcopy=False)[self.trial["number"]]
        if known.state.is_finished():
            return False  # Only the run is done once more, as its folder is gone.
        pruner = self.trial["pruner"]
        in_epoch, place, validated = where(trainer)
        first = len(self.before) * trainer.max_epochs * in_epoch
        step = first + trainer.current_epoch * in_epoch + place
        earlier = [value for at, value in known.intermediate_values.items() if first < at < step]
        value = float(trainer.callback_metrics[metric])
        best = best_so_far(value, before=self.before, earlier=earlier, mode=self.trial["mode"])
        granted = validated <= pruner["warmup"]
        if math.isnan(best):
            return not granted  # Optuna could not rank it among numbers, and there is nothing to wait for.
        steps = pruner["seeds"] * trainer.max_epochs * in_epoch
        self._study.pruner = make_pruner(pruner["name"], warmup=pruner["warmup"], steps=steps)
        told = Trial(self._study, known._trial_id)
        if step not in known.intermediate_values:
            told.report(best, step)
        return not granted and told.should_prune()


def where(trainer: Trainer) -> tuple[int, int, int]:
    """Where in its run a validation stands.

    Returns:
        Validations of an epoch; which of them this one is, from 1; validations of the run so far.
    """
    epochs = (trainer.current_epoch + 1) // (trainer.check_val_every_n_epoch or 1)
    every = trainer.val_check_batch
    if not isinstance(every, int):  # infinite where nobody knows how many batches there are
        return 1, 1, epochs
    in_epoch = max(1, int(trainer.num_training_batches) // every)
    place = min(in_epoch, math.ceil((trainer.fit_loop.batch_idx + 1) / every))
    return in_epoch, place, (epochs - 1) * in_epoch + place


def best_so_far(value: float, *, before: Sequence[float], earlier: Sequence[float], mode: str) -> float:
    """What is reported for an epoch.

    Args:
        value: Of this epoch.
        before: What the runs of earlier seeds ended with.
        earlier: What was reported for earlier epochs of this run.
        mode: ``max`` or ``min``.

    Returns:
        The best so far; not a number only where no epoch of the run had one.
    """
    numbers = [each for each in (*earlier, fmean([*before, value])) if not math.isnan(each)]
    return (max if mode == "max" else min)(numbers, default=math.nan)
