"""A deeper phase has to be worth its time, or the run ends with what it had before."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from ft.phases.recipe import PlannedPhase, Recipe, computed_head, full
from ft.phases.worth import Score, earns_place, is_enough, is_gain

PHASE = PlannedPhase(frozenset({"head"}), 2, 1, 1.0)
MODES = pytest.mark.parametrize("mode", ["max", "min"])


def auto(always: int = 0, phases: int = 2) -> Recipe:
    return Recipe("auto", (PHASE,) * phases, "solved", min_gain=0.01, min_loss_gain=0.1, always=always)


def task(mode: str = "max") -> Any:
    return SimpleNamespace(metric="val/acc", mode=mode)


def flipped(metric: float, mode: str) -> float:
    return metric if mode == "max" else 1 - metric


@MODES
@pytest.mark.parametrize(
    ("metric", "loss", "gain"),
    [
        (0.921, 0.9, True),  # the metric is enough
        (0.905, 0.49, False),  # a validation image more may be chance
        (0.905, 0.44, True),  # not if the loss says so too
        (0.900, 0.44, True),
        (0.899, 0.10, False),  # a lower loss is no excuse for more mistakes
        (0.900, math.nan, False),
        (math.nan, 0.10, False),
    ],
)
def test_better_is_a_metric_that_is_or_a_loss_without_a_worse_metric(metric, loss, gain, mode):
    score, before = Score(flipped(metric, mode), loss), Score(flipped(0.9, mode), 0.5)
    assert is_gain(score, before, mode, min_gain=0.01, min_loss_gain=0.1) is gain


def test_anything_is_better_than_no_number():
    assert is_gain(Score(0.1, 9.0), Score(math.nan, math.nan), "max", min_gain=0.01, min_loss_gain=0.1)


@pytest.mark.parametrize(
    ("epochs", "first", "metrics", "mode", "enough"),
    [
        (2, 0.5, {0: 0.6, 1: 0.7}, "max", False),  # the phase has helped
        (2, 0.8, {0: 0.6, 1: 0.7}, "max", True),  # the solved head was better
        (1, 0.8, {0: 0.6}, "max", False),  # the phase is not over
        (2, 0.8, {1: 0.7}, "max", True),  # validated in every other epoch
        (2, 0.8, {}, "max", False),  # not validated at all
        (4, 0.1, {0: 0.6, 1: 0.7, 2: 0.5, 3: 0.7}, "max", True),
        (2, 0.5, {0: 0.6, 1: 0.4}, "min", False),
        (2, 0.3, {0: 0.6, 1: 0.4}, "min", True),
        (2, None, {0: 0.1, 1: 0.1}, "max", False),  # nothing to compare with
    ],
)
def test_the_next_phase_opens_only_if_the_last_one_was_worth_it(epochs, first, metrics, mode, enough):
    metrics = metrics if first is None else {-1: first, **metrics}
    scores = {epoch: Score(metric, 0.5) for epoch, metric in metrics.items()}
    assert is_enough(auto(), task(mode), epochs, scores) is enough


@pytest.mark.parametrize(("loss", "enough"), [(0.30, True), (0.26, False)])
def test_where_the_metric_stands_still_the_loss_opens_the_next_phase(loss, enough):
    # Of the two epochs before with the same metric the later one is the best: 0.3 is its loss.
    scores = {0: Score(0.995, 0.2), 1: Score(0.995, 0.3), 2: Score(0.98, 0.1), 3: Score(0.995, loss)}
    assert is_enough(auto(always=2), task(), 4, scores) is enough


@pytest.mark.parametrize(
    ("epoch", "best_epoch", "values", "earned"),
    [
        (0, None, (0.1, 9.0), True),
        (
            1,
            -1,
            (0.9, 0.5),
            True,
        ),  # the first phase is gone through in any case: it need not beat the solved head by much
        (2, 1, (0.905, 0.5), False),  # the second has to earn its depth
        (2, -1, (0.905, 0.5), False),
        (2, 1, (0.91, 0.5), True),
        (2, 1, (0.90, 0.4), True),
        (3, 2, (0.90, 0.5), True),  # within it the better one is the best
        (99, 2, (0.90, 0.5), True),
    ],
)
def test_a_deeper_phase_has_to_earn_the_place_of_the_best(epoch, best_epoch, values, earned):
    now, best = (dict(zip(("val/acc", "val/loss"), each, strict=True)) for each in (values, (0.9, 0.5)))
    assert earns_place(auto(always=1), task(), epoch, now, best_epoch, best) is earned
    assert earns_place(
        full(frozenset({"head"}), epochs=4, head="solved", views=None), task(), epoch, now, best_epoch, best
    )


def test_so_many_phases_are_gone_through_in_any_case():
    scores = {epoch: Score(0.5, 0.5) for epoch in range(-1, 4)}
    assert [is_enough(auto(always=2, phases=3), task(), epochs, scores) for epochs in (2, 4)] == [False, True]


def test_full_and_linear_never_end_early():
    recipe = full(frozenset({"head"}), epochs=2, head="random", views=None)
    assert not is_enough(recipe, task(), 2, {-1: Score(0.99), 0: Score(0.9), 1: Score(0.1)})
    assert not computed_head().trains
