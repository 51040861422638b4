"""``budget=60s``: the best model that a given time allows, start-up and final test included.

    |- start -|- frozen stages, once -|- solved head -|- epochs of the phases that still fit -|- test -|
                                       ^ from here on there is always a model on disk          ^ budget

Everything before the last epoch is known by its cost: a pass over the images is cut short when it would take too large
a share, in which case a random part of the images is what the run trains on; a view, a phase or an epoch that cannot
end in time is not begun; one that is overtaken all the same stops between two batches and is validated. How far a run
comes depends on the machine and its load: runs with a budget are not repeatable.
"""

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

# Of what is left when the pass over the images begins: the rest is for training.
PASS_SHARE = 0.5
# Validation images, of the time that the training images may take.
VALIDATION_SHARE = 0.25

# For what comes after training, as long as nothing has shown how long that takes.
FIRST_RESERVE = 0.1


class Budget:
    """How much time is left.

    Args:
        seconds: In all; ``None`` for no limit.
        started: When the user's wait began, as ``now`` tells it.
        now: Tells seconds.
    """

    def __init__(self, seconds: float | None, *, started: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.started = started
        self.now = now
        self.reserve = 0.0 if seconds is None else FIRST_RESERVE * seconds  # for what comes after training

    @property
    def left(self) -> float:
        """Seconds until training has to end; infinite without a limit."""
        if self.seconds is None:
            return float("inf")
        return self.started + self.seconds - self.reserve - self.now()

    def allows(self, seconds: float) -> bool:
        """Whether something that takes so long would end in time."""
        return seconds <= self.left


class EndInTime(Callback):
    """Ends training before the budget does.

    Args:
        budget: Of the run.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._began = 0.0
        self._epoch = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self.budget.now()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.budget.seconds is not None:
            self._stop(trainer, self.budget.left <= 0)
            if trainer.should_stop:
                trainer.check_val_every_n_epoch = 1  # what is there is validated

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.budget.seconds is not None:
            self._epoch = self.budget.now() - self._began
            self._stop(trainer, not self.budget.allows(self._epoch))

    def _stop(self, trainer: Trainer, over: bool) -> None:
        # The processes agree: one that stopped alone would leave the others waiting for its gradients.
        if trainer.strategy.reduce_boolean_decision(over, all=False):
            trainer.should_stop = True
