"""Layer decay: every block of a ViT has its own rate, and the optimizer really gets it."""

from itertools import pairwise

import pytest

from ft.errors import UserError
from tests.plugins.conftest import Diary

ON = ("plugins=[layer_decay]", "plugins.layer_decay.decay=0.5", "schedule=constant", "optimizer.lr=0.1")


def rates(runs, *overrides, architecture="test_vit"):
    diary = Diary()
    run = runs.train(*ON, *overrides, "trainer.max_epochs=1", architecture=architecture, watch=diary)
    names = {id(parameter): name for name, parameter in run.module.model.named_parameters()}
    groups = run.trainer.optimizers[0].param_groups
    found = {}
    for group, rate in zip(groups, diary.lines[0, 1][1], strict=True):
        found.update({names[id(parameter)]: rate for parameter in group["params"]})
    assert found.keys() == dict(run.module.model.named_parameters()).keys()
    return found


def test_each_block_trains_at_half_the_rate_of_the_one_above(runs):
    found = rates(runs)
    assert found["head.fc.weight"] == pytest.approx(0.1)
    blocks = [found[f"backbone.blocks.{at}.attn.qkv.weight"] for at in range(6)]
    assert [above / below for below, above in pairwise(blocks)] == pytest.approx([2] * 5)
    assert found["backbone.patch_embed.proj.weight"] == pytest.approx(min(blocks) / 2)
    assert found["backbone.blocks.5.mlp.fc1.bias"] == found["backbone.blocks.5.attn.qkv.weight"]


def test_no_rate_falls_below_the_smallest(runs):
    assert min(rates(runs, "plugins.layer_decay.min_scale=0.25").values()) == pytest.approx(0.025)


def test_it_multiplies_with_the_heads_own_scale(runs):
    assert rates(runs, "optimizer.head_lr_scale=10")["head.fc.weight"] == pytest.approx(1.0)


@pytest.mark.parametrize("value", ["0", "1.5"])
def test_a_decay_outside_its_range_is_refused(runs, value):
    with pytest.raises(UserError, match=r"layer_decay.decay must be in \(0, 1\]"):
        runs.build("plugins=[layer_decay]", f"plugins.layer_decay.decay={value}")


def test_an_optimizer_with_one_rate_refuses_it(runs):
    with pytest.raises(UserError, match="gives each layer a rate, and optimizer=lbfgs has one"):
        runs.build(*ON, "optimizer=lbfgs")
