"""Parameter groups hold every parameter once; schedules are the formulas they claim to be."""

import math

import pytest
import torch
from torch import nn

from ft.errors import UserError
from ft.optim import schedules
from ft.optim.groups import default_groups, one_group
from ft.optim.options import ScheduleOptions


@pytest.fixture
def groups():
    model = nn.ModuleDict({"stem": nn.Linear(2, 2), "stage1": nn.BatchNorm1d(2), "head": nn.Linear(2, 3)})
    parameters = dict(model.named_parameters())
    stages = [(stage, [name for name in parameters if name.startswith(stage)]) for stage in model]
    made = default_groups(parameters, stages, lr=0.1, weight_decay=0.3, layer_decay=0.5, head_lr_scale=4.0)
    return parameters, made


def test_every_parameter_is_in_exactly_one_group(groups):
    parameters, made = groups
    assert sorted(id(p) for group in made for p in group["params"]) == sorted(id(p) for p in parameters.values())


def test_biases_and_norms_do_not_decay(groups):
    _, made = groups
    for group in made:
        assert group["weight_decay"] == (0.3 if group["params"][0].ndim > 1 else 0.0)


def test_rates_fall_from_the_last_stage_down_and_the_head_has_its_own(groups):
    _, made = groups
    assert {group["stage"]: group["lr"] for group in made} == pytest.approx({"head": 0.4, "stage1": 0.1, "stem": 0.05})


def test_one_direction_refuses_several_rates(groups):
    _, made = groups
    with pytest.raises(UserError, match="optimizer=cg moves all parameters along one direction"):
        one_group(made, name="cg")


def test_one_cycle_is_torchs(groups):
    total = 50
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        1.0,
        total_steps=total + 1,
        pct_start=0.3 + 1e-9,
        div_factor=25,
        final_div_factor=400,
        three_phase=False,
    )
    for step in range(total):
        ours = schedules.one_cycle(step, total, start=1 / 25, stop=1e-4, rise=0.3)
        # torch counts its turning points in whole steps, one off at most.
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=0.08)
        optimizer.step()
        theirs.step()


def test_cosine_starts_at_one_and_ends_where_it_is_told():
    values = [schedules.cosine(at, 10, warmup=2, stop=0.1) for at in (0, 1, 2, 6, 10, 12)]
    assert values == pytest.approx([1e-3, 0.5, 1.0, 0.55, 0.1, 0.1])


def test_step_and_constant():
    assert [schedules.step(at, 9, warmup=0, every=3, gamma=0.1) for at in (0, 2.9, 3, 6)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
    assert [schedules.constant(at, 9, warmup=4) for at in (0, 1, 4, 9)] == pytest.approx([1e-3, 0.25, 1, 1])


@pytest.mark.parametrize(
    ("values", "mode", "reductions"),
    [
        ([0.1, 0.2, 0.3], "max", 0),
        ([0.3, 0.2, 0.2], "max", 1),
        ([0.3, 0.2, 0.2, 0.2, 0.2], "max", 2),
        ([0.3, 0.2, 0.4, 0.3, 0.3], "max", 1),
        ([3, 4, 4], "min", 1),
        ([3, 2, 1], "min", 0),
    ],
)
def test_plateau_counts_how_often_the_metric_stopped_improving(values, mode, reductions):
    assert schedules.count_reductions(values, mode=mode, patience=1, cooldown=0) == reductions


def test_a_cooldown_gives_the_smaller_rate_time():
    assert schedules.count_reductions([1] + [0] * 6, mode="max", patience=1, cooldown=2) == 2


def test_units_are_epochs_or_steps():
    def factor(position, total):
        return position / total

    arguments = {"total_steps": 40, "steps_per_epoch": 10, "watched": [], "mode": "max"}
    assert ScheduleOptions(factor, "epoch").at(20, **arguments) == 0.5
    seen = ScheduleOptions(lambda position, total: position, "epoch").at(20, **arguments)
    assert seen == 2
    assert ScheduleOptions(lambda position, total: position, "step").at(20, **arguments) == 20


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_a_schedule_that_needs_an_end_says_so(name):
    options = {"cosine": {"warmup": 0, "stop": 0}, "one_cycle": {"start": 0.1, "stop": 0.1, "rise": 0.3}}[name]
    with pytest.raises(UserError, match=r"trainer.max_epochs must be set"):
        getattr(schedules, name)(1, math.inf, **options)


def test_a_run_may_be_as_long_as_its_steps(train_run):
    run = train_run("trainer.max_epochs=-1", "trainer.max_steps=6", "schedule=cosine")
    assert run.trainer.global_step == 6
    assert run.trainer.optimizers[0].param_groups[0]["lr"] < 1e-6
