"""Learning-rate factors: pure functions of how far training is.

Each takes ``position`` and ``total`` in epochs or steps, as ``schedule.unit`` says, and returns what the learning
rate is multiplied with.
"""

import math

from ft.errors import require


def constant(position: float, total: float, *, warmup: float) -> float:
    """1, after a linear warm-up."""
    del total
    return _warmup(position, warmup)


def cosine(position: float, total: float, *, warmup: float, stop: float) -> float:
    """From 1 down to ``stop`` along half a cosine, after a linear warm-up.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5, without restarts.
    """
    _need_length(total)
    require(0 <= stop <= 1, "schedule.stop", "must be in [0, 1]", stop)
    if position < warmup:
        return _warmup(position, warmup)
    share = min(1.0, (position - warmup) / max(total - warmup, 1e-12))
    return stop + (1 - stop) * (1 + math.cos(math.pi * share)) / 2


def one_cycle(position: float, total: float, *, start: float, stop: float, rise: float) -> float:
    """Up from ``start`` to 1 during the first ``rise`` of training, down to ``stop`` in the rest, along cosines.

    Source: Smith & Topin 2018, https://arxiv.org/abs/1708.07120; cosine form as in ``torch.optim.OneCycleLR``.
    """
    _need_length(total)
    require(0 < rise < 1, "schedule.rise", "must be in (0, 1)", rise)
    require(0 <= start <= 1, "schedule.start", "must be in [0, 1]", start)
    require(0 <= stop <= 1, "schedule.stop", "must be in [0, 1]", stop)
    share = min(1.0, position / total)
    if share < rise:
        return start + (1 - start) * (1 - math.cos(math.pi * share / rise)) / 2
    return stop + (1 - stop) * (1 + math.cos(math.pi * (share - rise) / (1 - rise))) / 2


def step(position: float, total: float, *, warmup: float, every: float, gamma: float) -> float:
    """Times ``gamma`` after ``every`` units, again and again, after a linear warm-up."""
    del total
    require(every > 0, "schedule.every", "must be above 0", every)
    require(0 < gamma <= 1, "schedule.gamma", "must be in (0, 1]", gamma)
    return _warmup(position, warmup) * gamma ** math.floor(position / every)


def plateau(position: float, total: float, *, reductions: int, warmup: float, gamma: float) -> float:
    """Times ``gamma`` for every time the metric has stopped improving, after a linear warm-up."""
    del total
    require(0 < gamma < 1, "schedule.gamma", "must be in (0, 1)", gamma)
    return _warmup(position, warmup) * gamma**reductions


def count_reductions(values: list[float], *, mode: str, patience: int, cooldown: int) -> int:
    """How often a metric has failed to improve for more than ``patience`` validations in a row.

    A function of all values so far, so that a resumed run counts as the uninterrupted one did.

    Args:
        values: The metric after each validation.
        mode: ``max`` or ``min``.
        patience: Validations without improvement that are still waited for.
        cooldown: Validations after a reduction that do not count.
    """
    require(patience >= 0, "schedule.patience", "must be at least 0", patience)
    require(cooldown >= 0, "schedule.cooldown", "must be at least 0", cooldown)
    best, bad, resting, reductions = -math.inf, 0, 0, 0
    for value in values:
        value = value if mode == "max" else -value
        if value > best:
            best, bad = value, 0
        elif resting == 0:
            bad += 1
        resting = max(0, resting - 1)
        if bad > patience:
            reductions, bad, resting = reductions + 1, 0, cooldown
    return reductions


def _need_length(total: float) -> None:
    require(math.isfinite(total), "trainer.max_epochs", "must be set, or trainer.max_steps, for this schedule", total)


def _warmup(position: float, length: float) -> float:
    """Linear from nearly 0 to 1; never 0, so that the first step moves."""
    require(length >= 0, "schedule.warmup", "must be at least 0", length)
    return 1.0 if position >= length else max(position / length, 1e-3)
