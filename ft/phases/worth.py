"""Which of two models is the better one, where validation has little to say; and so which phase was worth its time.

The metric of a small validation split moves in steps of an image, and stands still where nearly all of them are right:
the best of twenty epochs by its metric alone is the luckiest one. So

- the later epoch is kept, unless it is worse by what counts (``min_gain``): it was trained longer, and within a phase
  at a lower rate;
- a phase beyond those that are gone through in any case (``always``) takes the place of what was before it only if it
  is better by what counts, or no worse with a lower loss, which moves with every image.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ft.checkpoint.keep import Kept
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


def takes_place(recipe: "Recipe", task: "Task", epoch: int, values: Mapping[str, float], kept: "Kept") -> bool:
    """Whether a checkpoint is kept instead of the one that is.

    Args:
        recipe: Knows the phases, and what counts.
        task: Knows the metric.
        epoch: Of the checkpoint.
        values: Its metrics.
        kept: The best so far.
    """
    best = Score(kept.top, Score.of(kept.values, task.metric).loss)
    return _takes_place(recipe, task.mode, epoch, Score.of(values, task.metric), kept.epoch, best)


def is_enough(recipe: "Recipe", task: "Task", epochs: int, scores: Mapping[int, Score]) -> bool:
    """Whether to end instead of opening the next phase: the last one was not worth its time.

    Args:
        recipe: Knows the phases, and what counts.
        task: Knows the metric.
        epochs: That are behind.
        scores: After those epochs that were validated; -1 is before the first.
    """
    for number, (start, phase) in enumerate(zip(recipe.starts(), recipe.phases, strict=True), start=1):
        if number >= recipe.always and epochs == start + phase.epochs:
            before = {epoch: score for epoch, score in sorted(scores.items()) if epoch < start}
            during = [score for epoch, score in scores.items() if start <= epoch < epochs]
            if not before or not during:
                return False
            best = _best_of(recipe, task.mode, before)
            return not any(_is_gain(recipe, task.mode, score, best, recipe.min_gain) for score in during)
    return False


def _takes_place(recipe: "Recipe", mode: str, epoch: int, score: Score, kept: int, best: Score) -> bool:
    """Likewise; ``best`` has the best metric of all that have been kept, and the loss of the one that is."""
    number = recipe.number(epoch)
    if number >= recipe.always and kept < recipe.starts()[number]:
        return _is_gain(recipe, mode, score, best, max(recipe.min_gain, 0.0))
    if math.isnan(best.metric):
        return True
    gain = _gain(mode, score, best)
    return gain >= 0.0 or gain > -recipe.min_gain


def _is_gain(recipe: "Recipe", mode: str, score: Score, best: Score, min_gain: float) -> bool:
    """Whether a model is better by more than chance would make it; anything is better than no number."""
    gain = _gain(mode, score, best)
    if math.isnan(best.metric) or gain >= min_gain:
        return True
    return gain >= 0.0 and score.loss <= (1.0 - recipe.min_loss_gain) * best.loss


def _gain(mode: str, score: Score, best: Score) -> float:
    return (score.metric - best.metric) * (1.0 if mode == "max" else -1.0)


def _best_of(recipe: "Recipe", mode: str, scores: Mapping[int, Score]) -> Score:
    """The best metric of those that were kept, one after the other, and the loss of the last."""
    (kept, best), *later = scores.items()
    for epoch, score in later:
        if _takes_place(recipe, mode, epoch, score, kept, best):
            top = score.metric if math.isnan(best.metric) or _gain(mode, score, best) > 0 else best.metric
            kept, best = epoch, Score(top, score.loss)
    return best
