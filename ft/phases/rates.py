"""What the rate of each group of weights is multiplied with, at every step: schedule, recipe, plugins."""

from collections.abc import Callable, Sequence
from typing import Any

from ft.optim.options import ScheduleOptions
from ft.phases.recipe import Recipe
from ft.plugin import Plugin, fold


class Rates:
    """Factors by step and group.

    Args:
        recipe: Each of its phases has the whole schedule to itself.
        schedule: Up and down.
        plugins: They have the last word.
        stages: Of the model.
        total_steps: Of the run, as the trainer says.
        per_epoch: Optimizer steps in an epoch.
        mode: Of the task's metric.
        watched: The task's metric after every validation so far: a list that grows.
        scale: Of all rates, now.
    """

    def __init__(
        self,
        recipe: Recipe,
        schedule: ScheduleOptions,
        plugins: list[Plugin],
        stages: Sequence[str],
        *,
        total_steps: float,
        per_epoch: int,
        mode: str,
        watched: list[float],
        scale: Callable[[], float],
    ) -> None:
        self.recipe = recipe
        self.schedule = schedule
        self.plugins = plugins
        self.stages = stages
        self.total_steps = total_steps
        self.per_epoch = per_epoch
        self.mode = mode
        self.watched = watched
        self.scale = scale

    def factor(self, step: int, group: dict[str, Any]) -> float:
        """At an optimizer step, from 0."""
        epoch = step // self.per_epoch
        planned, start = self.recipe.at(epoch)
        # A run of one phase ends where the trainer says.
        alone = len(self.recipe.phases) == 1
        base = self.schedule.at(
            step - start * self.per_epoch,
            total_steps=self.total_steps if alone else planned.epochs * self.per_epoch,
            steps_per_epoch=self.per_epoch,
            watched=self.watched[start:],
            mode=self.mode,
        )
        base *= self.recipe.rate(epoch, group["stage"], self.stages)
        return self.scale() * fold(self.plugins, "lr_factor", base, step, group, self.per_epoch)


def recompute_rates(scheduler: Any) -> None:
    """At the start of an epoch: they were computed before the last validation, which some of them depend on.

    Args:
        scheduler: A ``LambdaLR``.
    """
    rates = [
        base * factor(scheduler.last_epoch)
        for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
