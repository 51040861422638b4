"""Which samplers and pruners there are, and what each can be used for; known without Optuna."""

from collections.abc import Sequence
from math import prod

from ft.errors import UserError, one_of
from ft.sweeps.space.parameters import CHOICE, Space

GRID = "grid"
SAMPLERS = (GRID, "random", "tpe", "gp", "cmaes", "nsga2")
# Combinations of a grid; counting them takes a second.
MOST = 1_000_000
PRUNERS = ("none", "median", "asha", "hyperband")


def refuse_unsearchable(space: Space, *, sampler: str, pruner: str, metrics: Sequence[str]) -> None:
    """Refuses what cannot be searched in this way; nothing is written yet.

    Raises:
        UserError: Names the key to change.
    """
    one_of(sampler, SAMPLERS, "sweep.sampler")
    one_of(pruner, PRUNERS, "sweep.pruner")
    if sampler == GRID:
        refuse_intervals(space)
        if pruner != "none":
            raise UserError(
                f"sweep.pruner={pruner} compares runs as they come, and a grid asks for all of them: "
                "set sweep.sampler=tpe or random, or sweep.pruner=none."
            )
        return
    if not space.parameters:
        raise UserError(
            f"sweep.sampler={sampler} has nothing to search: give a key several values, such as "
            "optimizer.lr=tag(log,interval(1e-4,1e-2)), or choose a space: sweep=tune."
        )
    if len(metrics) > 1:
        if pruner != "none":
            raise UserError(
                f"sweep.pruner={pruner} goes by one metric, and sweep.metrics has {', '.join(metrics)}: "
                "set sweep.pruner=none."
            )
        if sampler == "cmaes":
            raise UserError(
                f"sweep.sampler=cmaes goes by one metric, and sweep.metrics has {', '.join(metrics)}: "
                "set sweep.sampler=nsga2, tpe or gp."
            )
    numbers = [each.key for each in space.parameters if each.kind != CHOICE and not each.when and each.low != each.high]
    if sampler == "cmaes" and len(numbers) < 2:
        raise UserError(
            f"sweep.sampler=cmaes searches two numbers or more that every trial has, and the space has "
            f"{numbers[0] if numbers else 'none'}: set sweep.sampler=tpe."
        )


def refuse_intervals(space: Space) -> None:
    """Refuses what a grid cannot count out.

    Raises:
        UserError: A parameter can be any number, or there are too many combinations to ever end.
    """
    for parameter in space.parameters:
        if not parameter.is_listed:
            raise UserError(
                f"{parameter.key} can be any number of {parameter.text()}, and a grid tries each value: "
                f"give range(...) or choice(...), or set sweep.sampler=tpe."
            )
    # Those of parameters with conditions come on top.
    size = prod(parameter.size for parameter in space.parameters if not parameter.when)
    if size > MOST:
        keys = ", ".join(parameter.key for parameter in space.parameters)
        raise UserError(f"a grid of {keys} has {size:,} combinations: give fewer values, or set sweep.sampler=random.")
