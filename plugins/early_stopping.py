"""Early stopping: training ends once the task's metric has not improved for some validations.

    val/acc   .61  .70  .74  .73  .74  .72          patience=2: three without improvement, so training ends here
                         ^ best          ^ stop

Prechelt 1998, "Early stopping - but when?", https://doi.org/10.1007/3-540-49430-8_3. The checkpoint ``best`` is the one
that is tested. Turn on with ``plugins=[early_stopping]``.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from lightning.pytorch import Trainer

from ft import FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.errors import require

KEY = "plugins.early_stopping"


def validations_since_best(values: Sequence[float], *, mode: str, min_delta: float) -> int:
    """How many values follow the last one that improved on all before it by more than ``min_delta``.

    Args:
        values: The metric after each validation; one that is no number never improves.
        mode: ``max`` or ``min``.
        min_delta: At least 0, in the metric's unit.
    """
    sign = 1.0 if mode == "max" else -1.0
    best, since = -float("inf"), 0
    for value in values:
        better = sign * value > best + min_delta
        best, since = (sign * value, 0) if better else (best, since + 1)
    return since


def should_stop(values: Sequence[float], *, mode: str, patience: int, min_delta: float) -> bool:
    """Whether more than ``patience`` validations in a row have not improved.

    Args:
        values: The metric after each validation so far.
        mode: ``max`` or ``min``.
        patience: Validations without improvement that are still waited for.
        min_delta: What has to be exceeded to count as an improvement, in the metric's unit.
    """
    return validations_since_best(values, mode=mode, min_delta=min_delta) > patience


class EarlyStopping(Plugin):
    """Ends training.

    A run that has stopped stays stopped when it is resumed, unless its patience is raised.

    Args:
        patience: Validations without improvement that are still waited for, at least 0; ``None`` never stops.
        min_delta: Improvement that is too small to count, at least 0.

    Raises:
        UserError: A value is out of range, or nothing is validated.
    """

    neutral: ClassVar = {"patience": None}

    def __init__(self, *, patience: int | None, min_delta: float) -> None:
        require(patience is None or patience >= 0, f"{KEY}.patience", "must be null or at least 0", patience)
        require(min_delta >= 0, f"{KEY}.min_delta", "must be at least 0", min_delta)
        self.patience = patience
        self.min_delta = min_delta

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        if trainer.limit_val_batches == 0:
            raise UserError("plugins=[early_stopping] watches validation: set trainer.limit_val_batches above 0.")

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        # Lightning forgets that it was told to stop.
        self._stop_if_stalled(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._stop_if_stalled(trainer, pl_module)

    def _stop_if_stalled(self, trainer: Trainer, module: FineTuner) -> None:
        mode, values = module.task.mode, module.watched
        if self.patience is None or not should_stop(
            values, mode=mode, patience=self.patience, min_delta=self.min_delta
        ):
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            since = validations_since_best(values, mode=mode, min_delta=self.min_delta)
            print(f"stopped early: {module.task.metric} has not improved for {since} validations", flush=True)
