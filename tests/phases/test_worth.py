"""A deeper phase has to be worth its time, and a validation image more or less decides nothing."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from ft.checkpoint.keep import Kept
from ft.phases.recipe import PlannedPhase, Recipe, computed_head, full
from ft.phases.worth import Score, is_enough, takes_place

PHASE = PlannedPhase(frozenset({"head"}), 2, 1, 1.0)
MODES = pytest.mark.parametrize("mode", ["max", "min"])
FULL = full(frozenset({"head"}), epochs=4, head="solved", views=None)


def auto(always: int = 0, phases: int = 2) -> Recipe:
    return Recipe("auto", (PHASE,) * phases, "solved", min_gain=0.01, min_loss_gain=0.1, always=always)


def task(mode: str = "max") -> Any:
    return SimpleNamespace(metric="val/acc", mode=mode)


def took(
    recipe: Recipe, epoch: int, metric: float, loss: float, *, kept: int, mode: str = "max", top: float = 0.9
) -> bool:
    """Whether a checkpoint takes the place of one with 0.9 and a loss of 0.5."""

    def flipped(value: float) -> float:
        return value if mode == "max" else 1 - value

    best = Kept(kept, {"val/acc": flipped(0.9), "val/loss": 0.5}, flipped(top))
    return takes_place(recipe, task(mode), epoch, {"val/acc": flipped(metric), "val/loss": loss}, best)


@MODES
@pytest.mark.parametrize(
    ("metric", "loss", "taken"),
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
def test_a_deeper_phase_has_to_be_better_by_what_counts(metric, loss, taken, mode):
    assert took(auto(always=1), 2, metric, loss, kept=1, mode=mode) is taken
    assert took(auto(always=1), 2, metric, loss, kept=-1, mode=mode) is taken


@MODES
@pytest.mark.parametrize(
    ("metric", "taken"), [(0.92, True), (0.9, True), (0.895, True), (0.88, False), (math.nan, False)]
)
@pytest.mark.parametrize(("epoch", "kept"), [(0, -1), (1, 0), (3, 2), (99, 2)])
def test_within_a_phase_the_later_epoch_is_kept_unless_it_is_worse_by_what_counts(epoch, kept, metric, taken, mode):
    assert took(auto(always=1), epoch, metric, 9.0, kept=kept, mode=mode) is taken


@MODES
def test_many_small_losses_do_not_add_up(mode):
    """Worse is worse than the best that was ever kept."""
    assert not took(auto(always=1), 3, 0.895, 0.5, kept=2, mode=mode, top=0.91)
    assert not took(auto(always=1), 2, 0.905, 0.1, kept=1, mode=mode, top=0.91)


@MODES
def test_without_phases_whatever_is_not_worse_is_kept(mode):
    assert [took(FULL, 2, metric, 9.0, kept=1, mode=mode) for metric in (0.899, 0.9, 0.901)] == [False, True, True]


@pytest.mark.parametrize("recipe", [auto(always=1), FULL])
@pytest.mark.parametrize("epoch", [1, 2])
def test_anything_is_better_than_no_number(recipe, epoch):
    assert took(recipe, epoch, 0.1, 9.0, kept=0, top=math.nan)


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


def test_so_many_phases_are_gone_through_in_any_case():
    scores = {epoch: Score(0.5, 0.5) for epoch in range(-1, 4)}
    assert [is_enough(auto(always=2, phases=3), task(), epochs, scores) for epochs in (2, 4)] == [False, True]


def test_full_and_linear_never_end_early():
    assert not is_enough(FULL, task(), 4, {-1: Score(0.99), 0: Score(0.9), 3: Score(0.1)})
    assert not computed_head().trains
