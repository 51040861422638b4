"""Time limit: training ends cleanly when its time is used up, with the time before a resume counted in.

    |-- epoch 0 --|-- epoch 1 --|-- epoch 2 --|.. epoch 3 would end here ..|
                                              ^ stop       ^ minutes

An epoch that cannot end in time, by the time the last one took, is not begun; one that is overtaken by the limit all
the same stops between two batches, is validated and leaves its checkpoint (resuming goes on with the next epoch).
Schedules keep their shape over ``trainer.max_epochs``: a run that is cut short never reaches their end.
Counted are training and validation, not building the run and not the final test.
Turn on with ``plugins=[time_limit]``.
"""

import time
from collections.abc import Callable
from typing import Any, ClassVar

from lightning.pytorch import Trainer

from ft import Plugin
from ft.errors import require

KEY = "plugins.time_limit"


def time_is_up(used: float, ahead: float, limit: float) -> bool:
    """Whether training has to end now.

    Args:
        used: Seconds so far.
        ahead: Seconds until it could end next.
        limit: Seconds in all.
    """
    return used >= limit or used + ahead > limit


class TimeLimit(Plugin):
    """Ends training in time.

    Args:
        minutes: Of training and validation, above 0; ``None`` never stops.
        whole_epochs: Whether an epoch that will not fit is left out.

    Attributes:
        now: Tells seconds.

    Raises:
        UserError: ``minutes`` is out of range.
    """

    neutral: ClassVar = {"minutes": None}

    def __init__(self, *, minutes: float | None, whole_epochs: bool) -> None:
        require(minutes is None or minutes > 0, f"{KEY}.minutes", "must be null or above 0", minutes)
        self.minutes = minutes
        self.whole_epochs = whole_epochs
        self.now: Callable[[], float] = time.monotonic
        self.before = 0.0
        self.since: float | None = None
        self.epoch_began = 0.0
        self.last_epoch = 0.0

    @property
    def seconds(self) -> float:
        """Used up so far, before a resume too."""
        return self.before + (0.0 if self.since is None else self.now() - self.since)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.since = self.now()
        # A run that has used up its time stays where it is when it is resumed. One that was interrupted inside an
        # epoch goes on for as long as there is time.
        inside = trainer.fit_loop.epoch_loop.restarting
        self._check(trainer, next_epoch=0.0 if inside else self.last_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        # Not called when a run is resumed inside an epoch: what was restored is then right.
        self.epoch_began = self.seconds

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._check(trainer, next_epoch=0.0)
        if trainer.should_stop:
            # The epoch in which time runs out is validated, whichever it is.
            trainer.check_val_every_n_epoch = 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.last_epoch = self.seconds - self.epoch_began
        if trainer.current_epoch + 1 != trainer.max_epochs:
            self._check(trainer, next_epoch=self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "epoch_began": self.epoch_began, "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["seconds"]
        self.epoch_began, self.last_epoch = state_dict["epoch_began"], state_dict["last_epoch"]

    def _check(self, trainer: Trainer, *, next_epoch: float) -> None:
        if self.minutes is None or trainer.should_stop:
            return
        limit, ahead = 60 * self.minutes, next_epoch if self.whole_epochs else 0.0
        over = time_is_up(self.seconds, ahead, limit)
        # The processes agree: one that stopped alone would leave the others waiting for its gradients.
        if not trainer.strategy.reduce_boolean_decision(over, all=False):
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            why = f", and an epoch takes {ahead:.0f} s" if self.seconds < limit else ""
            print(f"stopped after {self.seconds:.0f} of {limit:.0f} s{why}", flush=True)
