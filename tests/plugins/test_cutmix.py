"""CutMix: recomputed by hand."""

import pytest
import torch

from ft.errors import UserError
from plugins.cutmix import Cutmix, cut_box, cutmix


def test_the_rectangle_is_the_partners_and_the_target_says_how_much():
    images, targets, order = torch.randn(4, 3, 8, 10), torch.eye(4), torch.tensor([1, 0, 3, 2])
    mixed, soft = cutmix(images, targets, box=(2, 6, 5, 10), order=order)
    assert torch.equal(mixed[:, :, 2:6, 5:], images[order, :, 2:6, 5:])
    outside = torch.ones(8, 10, dtype=torch.bool)
    outside[2:6, 5:] = False
    assert torch.equal(mixed[:, :, outside], images[:, :, outside])
    assert torch.equal(soft, 0.75 * targets + 0.25 * targets[order])


def test_the_batch_is_not_written_to_and_keeps_its_memory_format():
    images = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    mixed, _ = cutmix(images, torch.eye(2), box=(0, 8, 0, 8), order=torch.tensor([1, 0]))
    assert torch.equal(images, before)
    assert torch.equal(mixed, images[[1, 0]])
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_box_changes_nothing():
    images, targets = torch.randn(2, 3, 8, 8), torch.eye(2)
    mixed, soft = cutmix(images, targets, box=(3, 3, 2, 5), order=torch.tensor([1, 0]))
    assert torch.equal(mixed, images)
    assert torch.equal(soft, targets)


@pytest.mark.parametrize(
    ("lam", "y", "x", "box"),
    [
        (0.75, 0.5, 0.5, (25, 75, 50, 150)),
        (0.75, 0.0, 0.0, (0, 25, 0, 50)),
        (0.75, 0.999, 0.5, (74, 100, 50, 150)),
        (1.0, 0.5, 0.5, (50, 50, 100, 100)),
        (0.0, 0.5, 0.5, (0, 100, 0, 200)),
    ],
)
def test_the_box_covers_what_lam_leaves_and_is_cut_at_the_edge(lam, y, x, box):
    assert cut_box(100, 200, lam=lam, y=y, x=x) == box


def test_the_share_of_the_target_is_the_share_of_the_pixels_even_at_the_edge(build_run):
    plugin = build_run("plugins=[cutmix]", "plugins.cutmix.prob=1").module.plugins[0]
    classes = plugin.task.num_outputs
    images = torch.arange(classes).float()[:, None, None, None].expand(-1, 3, 32, 32)
    shares = set()
    for seed in range(30):
        mixed, soft = plugin.train_batch(images, torch.arange(classes), torch.Generator().manual_seed(seed))
        own = (mixed == images).float().mean((1, 2, 3))
        partner = soft.diagonal()
        torch.testing.assert_close(own, partner)
        assert torch.allclose(soft.sum(1), torch.ones(classes))
        shares.add(round(float(partner.min()), 3))
    assert len(shares) > 15


def test_the_same_generator_draws_the_same(build_run):
    plugin = build_run("plugins=[cutmix]", "plugins.cutmix.prob=1").module.plugins[0]
    images, targets = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 0, 1, 0, 1])
    one, other, third = (plugin.train_batch(images, targets, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], third[0])


def test_prob_is_the_share_of_the_batches_that_are_pasted(build_run):
    plugin = build_run("plugins=[cutmix]", "plugins.cutmix.prob=0.25").module.plugins[0]
    images, targets = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    pasted = sum(
        plugin.train_batch(images, targets, torch.Generator().manual_seed(seed))[1].is_floating_point()
        for seed in range(400)
    )
    assert 70 < pasted < 130


def test_it_goes_with_mixup(train_run):
    run = train_run("plugins=[mixup,cutmix]", "plugins.cutmix.prob=1")
    assert all(value.isfinite().all() for value in run.module.model.state_dict().values())


def test_a_task_without_soft_targets_is_named(build_run):
    with pytest.raises(UserError, match=r"plugins=\[cutmix\] blends targets, which task=regression does not"):
        build_run("plugins=[cutmix]", "task=regression", "data.kind=values")


@pytest.mark.parametrize(
    ("alpha", "prob", "message"), [(-1, 1, "alpha must be at least 0, got -1"), (1, 1.5, r"prob must be in \[0, 1\]")]
)
def test_values_out_of_range_are_refused(alpha, prob, message):
    with pytest.raises(UserError, match=message):
        Cutmix(alpha=alpha, prob=prob)
