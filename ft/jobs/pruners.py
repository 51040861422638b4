"""What ends hopeless runs early, by Optuna.

median      below the median of the finished trials at the same validation. Vizier, doi:10.1145/3097983.3098043
asha        not among the best quarter of those that came as far, at steps 1, 4, 16, ... arXiv:1810.05934
hyperband   several such ladders, some of which begin to judge later. arXiv:1603.06560
"""

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner

from ft.errors import one_of


def make_pruner(name: str, *, warmup: int, steps: int) -> BasePruner:
    """A pruner; it keeps nothing, so that every process makes its own.

    Args:
        name: ``median``, ``asha`` or ``hyperband``.
        warmup: Validations before it may prune.
        steps: Of a trial that goes to its end, all its runs together.

    Raises:
        UserError: There is no such pruner.
    """
    one_of(name, ("median", "asha", "hyperband"), "sweep.pruner")
    if name == "median":
        return MedianPruner(n_warmup_steps=warmup)
    least = max(1, warmup)
    if name == "asha":
        return SuccessiveHalvingPruner(min_resource=least)
    return HyperbandPruner(min_resource=least, max_resource=max(least, steps))
