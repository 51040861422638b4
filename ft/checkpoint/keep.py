"""Which checkpoints a run keeps: ``best`` by the task's metric, and ``last``.

Not Lightning's ``ModelCheckpoint``: it (2.6.6) writes ``last`` only when ``best`` has improved too.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ft.checkpoint.generations import current
from ft.checkpoint.interrupt import BetweenBatches
from ft.checkpoint.load import load
from ft.checkpoint.manifest import Damaged
from ft.checkpoint.not_written import NotWritten

# What happens where a checkpoint cannot be written.
ON_ERROR = ("stop", "go_on")


class Kept(NamedTuple):
    """The checkpoint ``best``.

    Attributes:
        epoch: Of its weights; -1 for a head that was solved and not trained.
        values: Its metrics.
        top: The best metric of this one and all that were in its place before.
    """

    epoch: int
    values: Mapping[str, float]
    top: float


class KeepCheckpoints(Checkpoint):
    """Writes ``last`` at the end of each epoch, ``best`` when the metric has improved, ``last`` on Ctrl-C.

    Args:
        folder: Where both go.
        metric: Name of the logged value.
        mode: ``max`` or ``min``.
        on_error: One of ``ON_ERROR``.

    Attributes:
        takes_place: From the epoch and the values of a checkpoint, and the one that is kept, to whether it takes that
            one's place.
        before_last: Called at the end of each epoch, before ``last`` says that it is over: what a run that is killed
            right afterwards would not write again.
    """

    def __init__(self, folder: Path, *, metric: str, mode: str, on_error: str) -> None:
        self.folder = folder
        self.metric = metric
        self.on_error = on_error
        self.sign = 1.0 if mode == "max" else -1.0
        self.takes_place: Callable[[int, Mapping[str, float], Kept], bool] = self._is_not_worse
        self.before_last: Callable[[Trainer], None] = nothing
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_values: dict[str, float] = {}
        self.top: float | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Inside an epoch; at its end the epoch's own values are still to come.
        if not trainer.is_last_batch:
            self._offer_logged(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        # After validation, and after the module and the plugins have seen its result. Lightning counts the epoch as
        # processed but not completed here; resuming from this point starts the next one.
        # Only if these weights were validated: not after an epoch without, or with a step since.
        if pl_module.validated_at == trainer.global_step:
            self._offer_logged(trainer)
        self.attempt(trainer, lambda: self.before_last(trainer))
        self.write(trainer, "last")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # Inside an epoch: resuming goes on with the batch after the last one that was trained on.
        if isinstance(exception, BetweenBatches) and trainer.global_step > 0:
            self.write(trainer, "last")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "best_values": self.best_values, "top": self.top}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        kept = current(self.folder / "best")
        if kept.is_dir():
            try:
                # What ``best`` says of itself: it may have been written after ``last``.
                state_dict = load(kept)["callbacks"][self.state_key]
            except Damaged as error:
                if getattr(rank_zero_only, "rank", 0) == 0:
                    print(f"{str(error).splitlines()[0]} The next epoch that is validated takes its place.", flush=True)
                state_dict = {"best": None, "best_epoch": None, "best_values": {}}
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.best_values = state_dict["best_values"]
        self.top = state_dict.get("top", self.best)  # older checkpoints do not have it

    def _offer_logged(self, trainer: Trainer) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.offer(trainer, values, epoch=trainer.current_epoch)

    def offer(self, trainer: Trainer, values: dict[str, float], *, epoch: int) -> bool:
        """Keeps the weights that are in the model now as ``best``, if they take the place of those that are.

        Args:
            trainer: Writes the checkpoint.
            values: The metrics of these weights; without the one that decides, nothing is kept.
            epoch: They are the weights of.

        Returns:
            Whether they were kept.
        """
        if self.metric not in values:
            return False
        kept = (
            None if self.top is None or self.best_epoch is None else Kept(self.best_epoch, self.best_values, self.top)
        )
        if kept is not None and not self.takes_place(epoch, values, kept):
            return False
        before = self.best, self.best_epoch, self.best_values, self.top
        self.best, self.best_epoch, self.best_values = values[self.metric], epoch, values
        if self.top is None or math.isnan(self.top) or self.sign * self.best > self.sign * self.top:
            self.top = self.best
        written = self.write(trainer, "best")
        if not written:
            self.best, self.best_epoch, self.best_values, self.top = before
        return written

    def _is_not_worse(self, epoch: int, values: Mapping[str, float], kept: Kept) -> bool:
        """A metric that is no number never beats one that is; of equals the later one: it was trained longer."""
        del epoch
        return math.isnan(kept.top) or self.sign * values[self.metric] >= self.sign * kept.top

    def write(self, trainer: Trainer, name: str) -> bool:
        """Writes a checkpoint of what is in the model now; to be called in every process.

        Returns:
            Whether it was written.

        Raises:
            NotWritten: It was not, and ``on_error`` is ``stop``.
        """
        failed: list[str] = []
        trainer.save_checkpoint(self.folder / name, storage_options=failed)
        return self._agreed(trainer, failed)

    def attempt(self, trainer: Trainer, write: Callable[[], None]) -> bool:
        """The same for what else belongs to a checkpoint.

        Args:
            trainer: Knows the other processes.
            write: Raises ``NotWritten`` in the first of them, or in none.
        """
        failed: list[str] = []
        try:
            write()
        except NotWritten as error:
            failed.append(str(error))
        return self._agreed(trainer, failed)

    def _agreed(self, trainer: Trainer, failed: list[str]) -> bool:
        # One process that stopped alone would leave the others waiting for it.
        told = failed[0] if failed else ""
        if trainer.world_size > 1:
            told = trainer.strategy.broadcast(told)
        if told and self.on_error == "stop":
            raise NotWritten(
                f"{told} What was there before is whole: make room and go on with resume=RUN, or set "
                "checkpoint.on_error=go_on to train on without."
            )
        if told and trainer.is_global_zero:
            print(f"{told} The run goes on without it (checkpoint.on_error=go_on).", flush=True)
        return not told


def nothing(trainer: Trainer) -> None:
    """There is nothing else to be written."""
    del trainer
