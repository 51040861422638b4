"""``on_nan=rollback``: back to the last checkpoint, on from there at a lower rate, a bounded number of times.

    last (epoch 2) ---- step ---- step ---- not finite
         ^------------------------------------'   rate * lr_factor, from here to the end of the run

How often it has happened is part of every later checkpoint; a run that is killed before the next one repeats the fault
and the rollback. Either way it ends where the uninterrupted run does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from ft.errors import NotFinite
from ft.faults.guard import Guard


class FirstCheckpoint(Callback):
    """Leaves something to go back to before the first step.

    Args:
        folder: Of the checkpoint ``last``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step == 0 and not self.folder.exists():
            trainer.save_checkpoint(self.folder)


def train(
    fit: Callable[[Path | None], None], checkpoint: Path | None, *, last: Path, guard: Guard, undo: Callable[[], Path]
) -> None:
    """Trains to the end, through as many rollbacks as are allowed.

    Args:
        fit: Trains from a checkpoint on.
        checkpoint: The one to begin with.
        last: The name of the one to go back to; without it no rollback is possible.
        guard: Knows the rules, and counts.
        undo: Called before going back: forgets what is not part of a checkpoint, and says which one is whole.

    Raises:
        NotFinite: No rollback is allowed, or no more of them.
    """
    while True:
        try:
            return fit(checkpoint)
        except NotFinite as error:
            if guard.rules.answer != "rollback" or not last.exists():
                raise
            told = str(error)
        if guard.rollbacks >= guard.rules.rollbacks:
            raise NotFinite(f"after {guard.rollbacks} rollbacks (on_nan_limits.rollbacks): {told}")
        guard.rollbacks += 1
        print(f"back to the last checkpoint, {guard.rate:g} of the rate: {told.splitlines()[0]}", flush=True)
        checkpoint = undo()
