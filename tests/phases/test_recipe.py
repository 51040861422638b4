"""What a recipe says for each epoch follows from the epoch and from what validation has said."""

import math

import pytest
import torch

from ft.errors import UserError
from ft.fit import fit
from ft.phases.recipe import Recipe, deepening, within

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4", "head")
SETTINGS = {
    "phases": [
        {"depth": 0.2, "steps": 100, "views": 1, "rate": 1.0},
        {"depth": 0.4, "steps": 200, "views": 3, "rate": 0.5},
    ],
    "min_epochs": 2,
    "max_epochs": 10,
    "head_rate": 0.3,
    "layer_decay": 0.5,
    "min_gain": 0.0,
    "min_loss_gain": 0.1,
    "always": 2,
    "frozen_statistics": True,
    "mixup": 0.2,
}


def deep(**changes) -> Recipe:
    options = {"num_images": 640, "batch_size": 32, "open": frozenset(STAGES), "head": None, **changes}
    return deepening(SETTINGS, STAGES, **options)


def test_a_recipe_that_says_nothing_of_the_loss_goes_by_the_metric_alone():
    older = {name: value for name, value in SETTINGS.items() if name != "min_loss_gain"}
    recipe = deepening(older, STAGES, num_images=640, batch_size=32, open=frozenset(STAGES), head=None)
    assert recipe.min_loss_gain == math.inf
    assert deep().min_loss_gain == 0.1


def test_each_phase_opens_its_share_of_the_backbone_from_the_top():
    one, two = deep().phases
    assert one.open == {"stage4", "head"}
    assert two.open == {"stage3", "stage4", "head"}
    assert (one.views, two.views) == (1, 3)


@pytest.mark.parametrize(("images", "epochs"), [(640, [5, 10]), (6400, [2, 2]), (64, [10, 10])])
def test_its_length_is_counted_in_steps_within_limits(images, epochs):
    assert [phase.epochs for phase in deep(num_images=images).phases] == epochs


def test_stages_that_the_user_names_are_open_in_one_phase():
    (only,) = deep(open=frozenset({"stage2", "head"})).phases
    assert only.open == {"stage2", "head"}
    assert only.epochs == 15


def test_the_phase_of_an_epoch_and_the_last_goes_on_for_ever():
    recipe = deep()
    assert [recipe.at(epoch)[1] for epoch in (0, 4, 5, 14, 99)] == [0, 0, 5, 5, 5]
    assert recipe.ever_open == {"stage3", "stage4", "head"}


def test_rates_fall_with_depth_and_the_solved_head_has_its_own():
    recipe = deep()
    rates = [recipe.rate(5, stage, STAGES) for stage in ("head", "stage4", "stage3")]
    assert rates == pytest.approx([0.15, 0.5, 0.25])
    assert deep(head="random").rate(0, "head", STAGES) == 1.0


@pytest.mark.parametrize(("epochs", "lengths"), [(1, [1]), (2, [1, 1]), (6, [2, 4]), (15, [5, 10]), (30, [10, 20])])
def test_a_given_number_of_epochs_is_shared_out(epochs, lengths):
    assert [phase.epochs for phase in within(deep(), epochs).phases] == lengths


def test_no_epochs_at_all_are_refused():
    with pytest.raises(UserError, match=r"trainer.max_epochs must be at least 1 for recipe=auto, or null, got 0"):
        within(deep(), 0)


@pytest.mark.parametrize(("cache", "stored"), [("auto", True), ("off", False)])
def test_training_images_are_blended_where_no_plugin_does_it(build_run, pretrained, cache, stored):
    run = build_run(pretrained, "recipe=auto", "recipe.mixup=0.3", f"cache={cache}", "trainer.max_epochs=1")
    seen = []
    original = run.module.one_step

    def spy(batch, kind):
        if kind == "train":
            seen.append((batch.boundary is not None, batch.targets))
        return original(batch, kind)

    run.module.one_step = spy
    fit(run, started=0.0)
    assert seen
    assert all(was_stored is stored for was_stored, _ in seen)
    for _, targets in seen:
        assert targets.shape[1] == run.module.task.num_outputs
        assert torch.allclose(targets.sum(1), torch.ones(len(targets)))
    assert any((targets.max(1).values < 1).any() for _, targets in seen)


def test_a_task_without_soft_targets_is_trained_unblended(build_run, pretrained):
    run = build_run(
        pretrained, "recipe=auto", "recipe.mixup=0.3", "task=regression", "data.kind=values", "trainer.max_epochs=1"
    )
    fit(run, started=0.0)
    assert run.trainer.global_step > 0


def test_the_head_alone_is_trained_and_everything_else_stays(train_run, pretrained):
    options = (pretrained, "recipe=head", "trainer.max_epochs=null", "recipe.head_training.steps=20")
    run = train_run(*options)
    before = run.module.model.backbone.state_dict()
    other = train_run(*options, "recipe.head_training.lr=0.1")
    assert -1 in run.module.scores
    # A linear head too: with recipe=linear the rate would have no say.
    assert not torch.equal(run.module.model.head.fc.weight, other.module.model.head.fc.weight)
    for name, value in other.module.model.backbone.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_way_to_begin_that_recipe_head_does_not_know_is_refused(build_run, pretrained):
    with pytest.raises(UserError, match=r"recipe.head_init=ridge is not a choice"):
        build_run(pretrained, "recipe=head", "recipe.head_init=ridge")
