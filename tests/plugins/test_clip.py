import pytest
import torch
from torch import nn

from ft.errors import UserError
from plugins.clip import Clip, clip


def parameter(weight, gradient):
    made = nn.Parameter(torch.tensor(weight))
    made.grad = torch.tensor(gradient)
    return made


def test_norm_scales_all_gradients_together():
    one, other = parameter([1.0], [3.0]), parameter([1.0], [4.0])
    norm = clip([one], [other], mode="norm", max=1.0)
    assert norm == pytest.approx(5.0)
    assert one.grad.item() == pytest.approx(0.6)
    assert other.grad.item() == pytest.approx(0.8)


def test_norm_leaves_a_small_gradient_as_it_is():
    one = parameter([1.0], [0.5])
    clip([one], [], mode="norm", max=1.0)
    assert one.grad.item() == pytest.approx(0.5)


def test_value_clips_each_number():
    one = parameter([1.0, 1.0, 1.0], [3.0, -3.0, 0.5])
    assert clip([one], [], mode="value", max=1.0) == pytest.approx((9 + 9 + 0.25) ** 0.5)
    assert one.grad.tolist() == [1.0, -1.0, 0.5]


def test_adaptive_clips_each_row_relative_to_its_weights_and_never_the_head():
    # Rows of norm 5 and 0.5 may have gradients of norm 0.5 and 0.05.
    rows = parameter([[3.0, 4.0], [0.3, 0.4]], [[3.0, 4.0], [0.03, 0.0]])
    head = parameter([[1.0, 0.0]], [[100.0, 0.0]])
    clip([rows], [head], mode="adaptive", max=0.1)
    assert rows.grad.flatten().tolist() == pytest.approx([0.3, 0.4, 0.03, 0.0])
    assert head.grad.tolist() == [[100.0, 0.0]]


def test_a_frozen_parameter_is_passed_over():
    frozen = nn.Parameter(torch.ones(2))
    for mode in ("norm", "value", "adaptive"):
        clip([frozen, parameter([1.0], [3.0])], [], mode=mode, max=1.0)
    assert frozen.grad is None


def test_in_a_run_no_step_is_longer_than_the_bound_allows(runs):
    # A rate of 1 without momentum: a step is the gradient.
    sgd = (
        "optimizer=sgd",
        *(f"optimizer.{each}" for each in ("lr=1", "momentum=0", "nesterov=false", "weight_decay=0")),
        *("schedule=constant", "schedule.warmup=0", "trainer.max_epochs=1", "trainer.limit_train_batches=1"),
    )
    before = {name: value.clone() for name, value in runs.build(*sgd).module.model.named_parameters()}
    run = runs.train("plugins=[clip]", "plugins.clip.max=1e-3", *sgd)
    moved = [(value - before[name]).detach().norm() for name, value in run.module.model.named_parameters()]
    assert torch.stack(moved).norm() == pytest.approx(1e-3, rel=1e-2)
    assert run.metrics.rows[0]["plugins/clip/norm"] > 1e-3


@pytest.mark.parametrize("mode", ["value", "adaptive"])
def test_the_other_modes_train(runs, mode):
    run = runs.train("plugins=[clip]", f"plugins.clip.mode={mode}", "plugins.clip.max=0.01", "trainer.max_epochs=1")
    assert run.metrics.rows[0]["plugins/clip/norm"] > 0


def test_an_unknown_mode_is_refused():
    with pytest.raises(UserError, match=r"plugins.clip.mode=nrom is not a choice.*Did you mean norm"):
        Clip(mode="nrom", max=1.0)


def test_a_bound_of_zero_is_refused():
    with pytest.raises(UserError, match=r"plugins.clip.max must be null or above 0, got 0"):
        Clip(mode="norm", max=0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("trainer.gradient_clip_val=1", "set trainer.gradient_clip_val=null"),
        ("optimizer=lbfgs", "optimizer=lbfgs searches along"),
    ],
)
def test_what_it_does_not_go_with_is_refused(build_run, setting, words):
    with pytest.raises(UserError, match=words):
        build_run("plugins=[clip]", setting)
