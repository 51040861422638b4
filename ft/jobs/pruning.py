"""Tells an Optuna study after every validation how a run does, and ends the run when the study's pruner says so.

    step    1  2  3  4 | 5  6  7  8 | ...       4 epochs a run, one run after the other for each seed
    value   best value so far of this run, averaged with what the runs of the earlier seeds ended with

The first epoch is most of what a hopeless run costs. With ``sweep.first_look=0.2`` a run is looked at after a fifth of
it as well, and a step is a fifth of an epoch: 1, 5, 10, 15, ... This look is at a sample of the validation images, the
same for all runs: it is told to nobody but the pruner, and chooses no checkpoint. With
``+trainer.val_check_interval=0.25`` there are four validations in every epoch, and a step is a quarter of one.

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
from ft.job_folder import HALVING
from ft.jobs.pruners import make_pruner
from ft.trial_storage import open_storage

# Of the validation split, at a first look: enough to tell the hopeless, and not the half of what such a run costs.
LOOK_IMAGES = 200
# Seconds to wait for other runs that report at the same time; each takes milliseconds.
PATIENCE = 60.0


class Pruning(Callback):
    """Reports to a study and obeys it.

    What it goes by is in the study: a run that is resumed neither reports an epoch twice nor forgets one.

    Args:
        trial: ``storage`` and ``study`` to reach it, ``number`` of the trial in it, ``metric`` and its ``mode``,
            ``pruner`` (``name``, ``warmup`` in validations, ``first_look`` as a share of an epoch or ``None``,
            ``seeds``); ``before``: what the runs of earlier seeds ended with.

    Attributes:
        pruned: The run was ended.
        value: The best that was told of it; ``None`` before anything was, and in processes that are not the first.
    """

    def __init__(self, trial: Mapping[str, Any]) -> None:
        self.trial = trial
        self.before: Sequence[float] = trial.get("before", ())
        self.pruned = False
        self.value: float | None = None
        self._study: optuna.Study | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.max_epochs or 0
        if epochs < 1:
            raise UserError(f"sweep.pruner={self.trial['pruner']['name']} needs a last epoch: set trainer.max_epochs.")
        if self.trial["pruner"]["first_look"] and (
            trainer.val_check_interval != 1.0 or trainer.check_val_every_n_epoch != 1
        ):
            raise UserError(
                "sweep.first_look needs one validation at the end of each epoch: leave out trainer.val_check_interval\n"
                "and trainer.check_val_every_n_epoch, or set sweep.first_look=null."
            )
        if trainer.is_global_zero:
            self._study = optuna.load_study(
                study_name=self.trial["study"],
                storage=open_storage(self.trial["storage"], patience=PATIENCE),
                # Nothing is drawn here, and the pruner is made when it is known how many validations an epoch has.
                sampler=RandomSampler(),
                pruner=NopPruner(),
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        share = self.trial["pruner"]["first_look"]
        if not share or trainer.current_epoch or batch_idx + 1 != look_after(share, trainer):
            return
        loaders: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] -- set by fit
        values = pl_module.score(loaders.sample_loader("val", LOOK_IMAGES))
        self._judge(trainer, values, (steps_of_an_epoch(trainer, share), 1, 1))
        if self.pruned:
            # Lightning would validate a run that is told to stop in the middle of an epoch.
            trainer.check_val_every_n_epoch = (trainer.max_epochs or 0) + 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Nothing before the first step, nor what a run that ends anyway validates in between, can be compared.
        if trainer.sanity_checking or (trainer.should_stop and not trainer.is_last_batch):
            return
        self._judge(trainer, trainer.callback_metrics, where(trainer, self.trial["pruner"]["first_look"]))

    def _judge(self, trainer: Trainer, values: Mapping[str, Any], at: tuple[int, int, int]) -> None:
        hopeless = self._is_hopeless(trainer, values, at) if trainer.is_global_zero else False
        # All processes end after the same step.
        if trainer.strategy.broadcast(hopeless):
            self.pruned = True
            trainer.should_stop = True

    def _is_hopeless(self, trainer: Trainer, values: Mapping[str, Any], at: tuple[int, int, int]) -> bool:
        assert self._study is not None
        assert trainer.max_epochs is not None
        metric = self.trial["metric"]
        if metric not in values:
            known = sorted(map(str, values))
            raise UserError(
                f"sweep.pruner goes by {metric}, which no validation returns.{did_you_mean(metric, known)}\n"
                f"A validation returns {', '.join(known)}."
            )
        known = self._study.get_trials(deepcopy=False)[self.trial["number"]]
        if known.state.is_finished():
            return False  # Only the run is done once more, as its folder is gone.
        pruner = self.trial["pruner"]
        in_epoch, place, validated = at
        first = len(self.before) * trainer.max_epochs * in_epoch
        step = first + trainer.current_epoch * in_epoch + place
        # A value of the sample is not one of the split.
        since = first + 1 if pruner["first_look"] else first
        earlier = [value for at, value in known.intermediate_values.items() if since < at < step]
        best = best_so_far(float(values[metric]), before=self.before, earlier=earlier, mode=self.trial["mode"])
        # Whoever is a finalist is run once more: halving ends all of them at their first look.
        halved, granted = pruner["name"] == HALVING, validated <= pruner["warmup"]
        if math.isnan(best):
            # Optuna could not rank it among numbers, and there is nothing to wait for.
            return halved or not granted
        self.value = best
        told = Trial(self._study, known._trial_id)
        if step not in known.intermediate_values:
            told.report(best, step)
        if halved:
            return place < in_epoch
        steps = pruner["seeds"] * trainer.max_epochs * in_epoch
        self._study.pruner = make_pruner(pruner["name"], warmup=pruner["warmup"], steps=steps)
        return not granted and told.should_prune()


def look_after(share: float, trainer: Trainer) -> int | None:
    """The batches of its first epoch after which a run is looked at; ``None`` where its end comes as soon."""
    batches = int(trainer.num_training_batches)
    look = max(1, round(share * batches))
    return look if look < batches else None


def steps_of_an_epoch(trainer: Trainer, first_look: float | None) -> int:
    """How many steps of a study an epoch has: as many as it could have validations at even distances."""
    if first_look:
        return max(2, round(1 / first_look))
    every = trainer.val_check_batch
    # Infinite where nobody knows how many batches there are.
    return max(1, int(trainer.num_training_batches) // every) if isinstance(every, int) else 1


def where(trainer: Trainer, first_look: float | None) -> tuple[int, int, int]:
    """Where in its run a validation stands.

    Args:
        trainer: Is validating.
        first_look: Share of the first epoch after which it was looked at; ``None``: it was not.

    Returns:
        Steps of an epoch; which of them this one is, from 1; validations of the run so far, the look among them.
    """
    epochs = (trainer.current_epoch + 1) // (trainer.check_val_every_n_epoch or 1)
    in_epoch, every = steps_of_an_epoch(trainer, first_look), trainer.val_check_batch
    if first_look:
        return in_epoch, in_epoch, 1 + epochs
    if not isinstance(every, int):
        return in_epoch, 1, epochs
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
