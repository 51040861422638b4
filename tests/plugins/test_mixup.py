"""Mixup: equation 1 by hand, soft targets for the tasks that allow them, an error for the one that does not."""

import pytest
import torch

from ft.data.blend import blend
from ft.errors import UserError


def test_images_and_targets_are_blended_by_the_same_share():
    images = torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1, 1)
    targets = torch.eye(3)
    blended, soft = blend(images, targets, lam=0.75, order=torch.tensor([2, 0, 1]))
    assert blended.flatten().tolist() == [0.75 * 1 + 0.25 * 5, 0.75 * 2 + 0.25 * 1, 0.75 * 5 + 0.25 * 2]
    assert soft[0].tolist() == [0.75, 0, 0.25]
    assert torch.equal(soft.sum(1), torch.ones(3))


def batch_of(runs, *overrides):
    run = runs.build("plugins=[mixup]", *overrides)
    images, targets = torch.rand(8, 3, 4, 4), torch.arange(8) % run.module.task.num_outputs
    plugin = run.module.plugins[0]
    return images, targets, plugin.train_batch(images, targets, torch.Generator().manual_seed(1)), plugin


def test_the_same_generator_gives_the_same_batch(runs):
    images, targets, (blended, soft), plugin = batch_of(runs)
    again, _ = plugin.train_batch(images, targets, torch.Generator().manual_seed(1))
    assert torch.equal(blended, again)
    assert not torch.equal(blended, images)
    assert soft.shape == (8, plugin.task.num_outputs)


def test_a_batch_that_is_not_chosen_stays_as_it_is(runs):
    images, targets, (blended, same), _ = batch_of(runs, "plugins.mixup.prob=0")
    assert blended is images
    assert same is targets


@pytest.mark.parametrize(("task", "kind"), [("classification", "classes"), ("multilabel", "labels")])
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "focal"])
def test_every_task_with_soft_targets_trains(runs, task, kind, loss):
    run = runs.train("plugins=[mixup]", f"task={task}", f"data.kind={kind}", f"task.loss={loss}")
    assert run.metrics.rows[1]["train/loss"] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("task=regression", "data.kind=values"), "blends targets, which task=regression does not allow"),
        (("plugins.mixup.alpha=-1",), "mixup.alpha must be at least 0, got -1"),
        (("plugins.mixup.prob=2",), r"mixup.prob must be in \[0, 1\], got 2"),
    ],
)
def test_what_cannot_be_is_refused(runs, overrides, message):
    with pytest.raises(UserError, match=message):
        runs.build("plugins=[mixup]", *overrides)
