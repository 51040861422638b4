"""Which jobs begin from another: those, and no others, whose computation is the same for a while."""

import copy
from typing import Any

import pytest

from ft.sweeps.running.shared_phases import Fork, num_shared, plan
from tests.conftest import composed


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    """The resolved config of a plain run on images like photographs, as the sweep sees it."""
    from omegaconf import OmegaConf

    with composed("data.suggested.recipe=null") as config:
        return OmegaConf.to_container(config, resolve=True)  # pyright: ignore[reportReturnType]


def changed(config: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy with other values; ``__`` stands for the dot of a key, and a number for a place in a list."""
    fresh = copy.deepcopy(config)
    for key, value in values.items():
        *path, last = [int(part) if part.isdecimal() else part for part in key.split("__")]
        place: Any = fresh
        for part in path:
            place = place[part]
        place[last] = value
    return fresh


def test_a_job_begins_from_the_first_that_shares_most_with_it(default):
    configs = {
        "a": default,
        "b": changed(default, recipe__phases__3__rate=0.5),
        "c": changed(default, recipe__phases__1__steps=100),
        "d": changed(default, recipe__phases__1__steps=100, recipe__phases__2__views=2),
        "e": changed(default, recipe__phases__0__steps=100),
        "f": changed(default, recipe__phases=default["recipe"]["phases"][:3]),
    }
    forks = plan(configs)
    assert forks == {"b": Fork("a", 3), "c": Fork("a", 1), "d": Fork("c", 2), "f": Fork("a", 3)}


def test_the_order_of_the_jobs_says_who_is_whole(default):
    other = changed(default, recipe__phases__3__steps=1)
    assert plan({"b": other, "a": default}) == {"a": Fork("b", 3)}


def test_a_source_runs_itself_what_it_is_asked_to_keep(default):
    """Every combination of later values, in one sweep of 27 jobs: a tree."""
    configs = {
        f"{one}{two}{three}": changed(
            default, recipe__phases__1__rate=one, recipe__phases__2__rate=two, recipe__phases__3__rate=three
        )
        for one in (1, 2, 3)
        for two in (1, 2, 3)
        for three in (1, 2, 3)
    }
    forks = plan(configs)
    for source, phase in forks.values():
        assert phase > (forks[source].phase if source in forks else 0)
    # Of 4 phases: the first once, the second 3 times, the third 9 times, the last 27 times.
    assert sum(4 - (forks[key].phase if key in forks else 0) for key in configs) == 1 + 3 + 9 + 27


def test_two_entries_of_the_same_depth_are_one_phase(default):
    deeper = changed(default, recipe__phases__2__depth=0.25)
    assert plan({"a": default, "b": deeper}) == {"b": Fork("a", 1)}


def test_what_is_asked_later_may_differ_until_it_is_asked(default):
    """``always=3`` and ``2``: both go through two phases without a question."""
    assert default["recipe"]["always"] == 3
    less = changed(default, recipe__always=2)
    assert num_shared(default, less) == 2
    assert num_shared(default, changed(default, recipe__min_gain=0.1)) == 3
    assert num_shared(less, changed(less, recipe__min_gain=0.1)) == 2
    assert num_shared(changed(default, recipe__always=0), default) == 0


@pytest.mark.parametrize(
    "difference",
    [
        {"seed": 1},
        {"data__batch_size": 16},
        {"model__head__drop_rate": 0.1},
        {"optimizer__lr": 1e-4},
        {"schedule__unit": "another"},
        {"recipe__mixup": 0.0},
        {"recipe__head_rate": 1.0},
        {"recipe__layer_decay": 0.9},
        {"recipe__frozen_statistics": True},
        {"recipe__crop": [0.8, 1.0]},
        {"recipe__min_epochs": 1},
        {"recipe__max_epochs": 3},
        {"trainer__precision": "bf16-mixed"},
        {"cache__dtype": "fp32"},
        {"task__loss": "another"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_another_computation_is_not_shared(default, difference):
    other = changed(default, recipe__phases__3__rate=0.5)
    assert plan({"a": default, "b": other})
    assert not plan({"a": default, "b": changed(other, **difference)})


@pytest.mark.parametrize(
    "setting",
    [
        {"budget": "60s"},
        {"trainer__max_epochs": 5},
        {"trainer__max_time": "00:00:10:00"},
        {"plugins": {"mixup": {"_target_": "plugins.mixup.Mixup"}}},
        {"optimizer__full_batch": True},
        {"recipe__name": "full"},
        {"recipe__name": "linear"},
        {"data__suggested__recipe": "full"},
        {"model__open": ["stage4", "head"]},
    ],
    ids=lambda each: next(iter(each)),
)
def test_runs_that_feel_their_end_from_the_beginning_share_nothing(default, setting):
    one, other = (changed(default, **setting, recipe__phases__3__rate=rate) for rate in (0.5, 0.7))
    assert not plan({"a": one, "b": other})


def test_runs_of_one_phase_share_nothing(default):
    short = changed(default, recipe__phases=default["recipe"]["phases"][:1])
    assert not plan({"a": short, "b": default})
    assert not plan({"a": default, "b": short})


def test_augmented_images_are_not_the_plain_ones(default):
    """One phase of several views, and the training images of all phases are cropped and flipped."""
    phases = [{**phase, "views": 1} for phase in default["recipe"]["phases"]]
    plain = changed(default, recipe__phases=phases)
    assert plain["recipe"]["phases"][0] == default["recipe"]["phases"][0]
    assert not plan({"a": plain, "b": default})


def test_where_runs_are_written_and_what_is_told_of_them_changes_nothing(default):
    other = changed(default, recipe__phases__3__rate=0.5, runs_dir="elsewhere", report=False)
    assert plan({"a": default, "b": other}) == {"b": Fork("a", 3)}
