"""Whether a deeper phase is worth its time: by how much a model has to be better than the one before.

The metric of a small validation split moves in steps of an image, and stands still where nearly all of them are right:
then the loss, which moves with every image, says which of two models is the better one.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ft.phases.recipe import Recipe
    from ft.tasks.task import Task

LOSS = "val/loss"


class Score(NamedTuple):
    """What validation has said of a model.

    Attributes:
        metric: The task's own.
        loss: NaN where it is not known.
    """

    metric: float
    loss: float = math.nan

    @classmethod
    def of(cls, values: Mapping[str, float], metric: str) -> "Score":
        """From logged values; NaN for what they lack."""
        return cls(values.get(metric, math.nan), values.get(LOSS, math.nan))


def is_gain(score: Score, before: Score, mode: str, *, min_gain: float, min_loss_gain: float) -> bool:
    """Whether a model is better by more than chance would make it.

    Args:
        score: Of the model.
        before: Of the one it is compared with; anything is better than a metric that is no number.
        mode: ``max`` or ``min``: of the metric.
        min_gain: Enough of the metric.
        min_loss_gain: Share of the loss that is enough where the metric is not worse.
    """
    gain = (score.metric - before.metric) * (1.0 if mode == "max" else -1.0)
    if math.isnan(before.metric) or gain >= min_gain:
        return True
    return gain >= 0.0 and score.loss <= (1.0 - min_loss_gain) * before.loss


def earns_place(
    recipe: "Recipe",
    task: "Task",
    epoch: int,
    values: Mapping[str, float],
    best_epoch: int | None,
    best: Mapping[str, float],
) -> bool:
    """Whether a checkpoint that is not worse than the best so far may take its place.

    A phase beyond those that are gone through in any case has to earn what it opens: a validation image more would
    otherwise let chance choose the deeper of two models.

    Args:
        recipe: Knows the phases.
        task: Knows the metric.
        epoch: Of the checkpoint.
        values: Its metrics.
        best_epoch: Of the best so far; -1 for a solved head, ``None`` for none.
        best: Its metrics.
    """
    number = recipe.number(epoch)
    if number < recipe.always or best_epoch is None or best_epoch >= recipe.starts()[number]:
        return True
    now, before = (Score.of(each, task.metric) for each in (values, best))
    return is_gain(now, before, task.mode, min_gain=max(recipe.min_gain, 0.0), min_loss_gain=recipe.min_loss_gain)


def is_enough(recipe: "Recipe", task: "Task", epochs: int, scores: Mapping[int, Score]) -> bool:
    """Whether to end instead of opening the next phase: the last one was not worth its time.

    Args:
        recipe: Knows the phases.
        task: Knows the metric.
        epochs: That are behind.
        scores: After those epochs that were validated; -1 is before the first.
    """
    sign = 1.0 if task.mode == "max" else -1.0
    for number, (start, phase) in enumerate(zip(recipe.starts(), recipe.phases, strict=True), start=1):
        if number >= recipe.always and epochs == start + phase.epochs:
            before = {epoch: score for epoch, score in scores.items() if epoch < start}
            during = [score for epoch, score in scores.items() if start <= epoch < epochs]
            if not before or not during:
                return False
            # Of equals the later one, as among checkpoints.
            best = before[max(before, key=lambda epoch: (sign * before[epoch].metric, epoch))]
            return not any(
                is_gain(each, best, task.mode, min_gain=recipe.min_gain, min_loss_gain=recipe.min_loss_gain)
                for each in during
            )
    return False
