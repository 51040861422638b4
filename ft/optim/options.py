"""What the training loop needs to know of the optimizer and its schedule."""

from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer

from ft.errors import require
from ft.optim.groups import ParamGroup, one_rate_only
from ft.optim.schedules import count_reductions


@dataclass(frozen=True)
class OptimizerOptions:
    """The optimizer.

    Attributes:
        make: Groups to optimizer.
        name: For messages.
        lr: Learning rate of the backbone's last stage.
        weight_decay: For matrices and kernels.
        layer_decay: Factor from one stage to the one below.
        head_lr_scale: Factor for the new head.
        full_batch: One step is one or more passes over the whole training set.
        single_group: It moves all parameters along one direction, so it has one learning rate.

    Raises:
        UserError: A value is out of range.
    """

    make: Callable[[list[ParamGroup]], Optimizer]
    name: str
    lr: float
    weight_decay: float
    layer_decay: float
    head_lr_scale: float
    full_batch: bool
    single_group: bool

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", "must be above 0", self.lr)
        require(self.weight_decay >= 0, "optimizer.weight_decay", "must be at least 0", self.weight_decay)
        require(0 < self.layer_decay <= 1, "optimizer.layer_decay", "must be in (0, 1]", self.layer_decay)
        require(self.head_lr_scale > 0, "optimizer.head_lr_scale", "must be above 0", self.head_lr_scale)
        if self.single_group and (self.layer_decay, self.head_lr_scale) != (1, 1):
            raise one_rate_only(self.name)


@dataclass(frozen=True)
class ScheduleOptions:
    """The learning-rate schedule.

    Attributes:
        factor: ``(position, total) -> factor``; takes ``reductions`` too where ``patience`` is given.
        unit: ``epoch`` or ``step``: what position and total count.
        patience: Validations without improvement before a reduction; ``None`` where no metric is watched.
        cooldown: Validations after a reduction that do not count.
    """

    factor: Callable[..., float]
    unit: str
    patience: int | None = None
    cooldown: int = 0

    def at(self, step: int, *, total_steps: float, steps_per_epoch: float, watched: list[float], mode: str) -> float:
        """The factor at an optimizer step.

        Args:
            step: From 0.
            total_steps: Of the whole run; infinite where only time ends it.
            steps_per_epoch: Of the optimizer.
            watched: The metric after each validation so far.
            mode: Which of two metrics is better.
        """
        per_unit = steps_per_epoch if self.unit == "epoch" else 1.0
        if self.patience is None:
            return self.factor(step / per_unit, total_steps / per_unit)
        reductions = count_reductions(watched, mode=mode, patience=self.patience, cooldown=self.cooldown)
        return self.factor(step / per_unit, total_steps / per_unit, reductions=reductions)
