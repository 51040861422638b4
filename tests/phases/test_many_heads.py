"""Many heads at once become what each of them would have become alone."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ft.data.blend import blend, draw_blend
from ft.data.randomness import derive_seed
from ft.errors import UserError
from ft.model.head import make_head
from ft.optim.schedules import one_cycle
from ft.phases.head_training import draw_weights
from ft.phases.many_heads import HeadTraining, train_heads
from ft.phases.stacked_head import drop, structure

NUM_FEATURES, NUM_CLASSES, NUM_IMAGES = 12, 3, 50
STEPS = {"steps": 30, "batch_size": 16, "seed": 0}
PLAIN = HeadTraining(F.cross_entropy, lr=0.01, weight_decay=0.05)
soften = partial(F.one_hot, num_classes=NUM_CLASSES)


@pytest.fixture
def set_of_features() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(NUM_IMAGES) % NUM_CLASSES
    centres = torch.randn(NUM_CLASSES, NUM_FEATURES, generator=generator)
    return centres[targets] + torch.randn(NUM_IMAGES, NUM_FEATURES, generator=generator), targets


def head(**changes) -> nn.Sequential:
    shape = {"hidden": [], "activation": "relu", "drop_rate": 0.0, "norm": "none", **changes}
    made = make_head(NUM_FEATURES, NUM_CLASSES, **shape)
    draw_weights(made, seed=1)
    return made


def soft(targets: torch.Tensor) -> torch.Tensor:
    return soften(targets).float()


def train(heads, how, data, **changes) -> None:
    train_heads(heads, *data, how, soften=soft, **{**STEPS, **changes})


def assert_close(one: nn.Module, other: nn.Module) -> None:
    other_state = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.allclose(value, other_state[name], atol=1e-5), name


KINDS = {
    "linear": (head(), PLAIN),
    "another rate": (head(), replace(PLAIN, lr=0.003)),
    "no decay": (head(), replace(PLAIN, weight_decay=0.0)),
    "smoothed": (head(), replace(PLAIN, loss=partial(F.cross_entropy, label_smoothing=0.2))),
    "dropout": (head(drop_rate=0.3), PLAIN),
    "more dropout": (head(drop_rate=0.6), PLAIN),
    "mixup": (head(), replace(PLAIN, mixup=0.4)),
    "mixup and dropout": (head(drop_rate=0.3), replace(PLAIN, mixup=0.2)),
    "hidden": (head(hidden=[8]), PLAIN),
    "hidden, dropout": (head(hidden=[8, 6], drop_rate=0.2), PLAIN),
    "hidden, mixup": (head(hidden=[8], activation="gelu"), replace(PLAIN, mixup=0.2)),
    "batch norm": (head(norm="batch"), PLAIN),
    "batch norm, hidden, dropout": (head(norm="batch", hidden=[8], drop_rate=0.2), PLAIN),
    "layer norm": (head(norm="layer", hidden=[8]), PLAIN),
}


def test_each_head_becomes_what_it_becomes_alone(set_of_features):
    twice = [copy.deepcopy(one) for one, _ in KINDS.values() for _ in range(2)]
    # Two of each structure, the second at half the rate: products of several heads, and one go for all.
    how = [each for _, one in KINDS.values() for each in (one, replace(one, lr=one.lr / 2))]
    alone = [copy.deepcopy(each) for each in twice]
    train(twice, how, set_of_features)
    for each, one in zip(alone, how, strict=True):
        train([each], [one], set_of_features)
    for each, other, started in zip(twice, alone, (one for one, _ in KINDS.values() for _ in range(2)), strict=True):
        assert_close(each, other)
        assert not torch.allclose(each.fc.weight, started.fc.weight, atol=1e-3)


@pytest.mark.parametrize("name", ["linear", "smoothed", "mixup", "hidden", "batch norm", "layer norm"])
def test_a_head_is_trained_as_torch_trains_it(set_of_features, name):
    features, targets = set_of_features
    started, how = KINDS[name]
    ours, plain = copy.deepcopy(started), copy.deepcopy(started).train()
    train([ours], [how], set_of_features)
    matrices = [each for each in plain.parameters() if each.ndim > 1]
    others = [each for each in plain.parameters() if each.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": how.weight_decay}, {"params": others, "weight_decay": 0.0}]
    )
    generator, order = torch.Generator().manual_seed(derive_seed(0, "head")), torch.empty(0, dtype=torch.long)
    for step in range(STEPS["steps"]):
        if len(order) < STEPS["batch_size"]:
            order = torch.randperm(NUM_IMAGES, generator=generator)
        rows, order = order[: STEPS["batch_size"]], order[STEPS["batch_size"] :]
        for group in optimizer.param_groups:
            group["lr"] = how.lr * one_cycle(step, STEPS["steps"], start=0.04, stop=0.0001, rise=0.2)
        inputs, wanted = features[rows], targets[rows]
        if how.mixup:
            drawn = torch.Generator().manual_seed(derive_seed(derive_seed(0, "head step", step), "mixup"))
            lam, partners = draw_blend(len(rows), how.mixup, drawn)
            inputs, wanted = blend(inputs, soft(wanted), lam=lam, order=partners)
        optimizer.zero_grad()
        how.loss(plain(inputs), wanted).backward()
        optimizer.step()
    assert_close(ours, plain)


def test_a_head_of_its_own_kind_is_trained_beside_the_others(set_of_features):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)
            self.drop = nn.Dropout(0.5)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.fc(self.drop(features))

    own, alone = Own(), head()
    assert structure(own) is None
    before = copy.deepcopy(own)
    others = [head(), head(drop_rate=0.2)]
    train([others[0], own, others[1]], [PLAIN] * 3, set_of_features)
    train([alone], [PLAIN], set_of_features)
    assert_close(alone, others[0])
    features, targets = set_of_features
    assert F.cross_entropy(own.eval()(features), targets) < F.cross_entropy(before.eval()(features), targets) - 0.1


def test_a_head_that_diverges_takes_no_other_with_it(set_of_features):
    heads = [head(hidden=[8]), head(hidden=[8])]
    broken = replace(PLAIN, loss=lambda logits, targets: F.cross_entropy(logits, targets) * float("nan"))
    alone = head(hidden=[8])
    train(heads, [PLAIN, broken], set_of_features)
    train([alone], [PLAIN], set_of_features)
    assert heads[1].fc.weight.isnan().all()
    assert_close(heads[0], alone)


def test_the_global_generator_is_left_as_it_was(set_of_features):
    heads = [head(drop_rate=0.5), nn.Sequential(nn.Dropout(0.5), nn.Flatten(), head())]
    state = torch.get_rng_state()
    train(heads, [PLAIN] * 2, set_of_features)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_drops_what_is_below_its_rate_and_keeps_the_mean():
    inputs, drawn = torch.ones(2, 1, 4), torch.tensor([[0.0, 0.24, 0.25, 0.9]])
    assert torch.equal(drop(inputs, 0.25, drawn), torch.tensor([0.0, 0.0, 4 / 3, 4 / 3]).expand(2, 1, 4))
    many = torch.rand(1000, 100, generator=torch.Generator().manual_seed(0))
    assert drop(torch.ones(1000, 100), 0.4, many).mean() == pytest.approx(1.0, abs=0.01)


def test_weights_are_drawn_from_the_seed_alone():
    one, other, third = head(hidden=[8]), head(hidden=[8]), head(hidden=[8])
    torch.rand(7)
    for each, seed in ((one, 5), (other, 5), (third, 6)):
        draw_weights(each, seed=seed)
    assert torch.equal(one.fc.weight, other.fc.weight)
    assert not torch.equal(one.fc.weight, third.fc.weight)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lr": 0.0}, "recipe.head_training.lr must be above 0, got 0.0"),
        ({"weight_decay": -1.0}, "recipe.head_training.weight_decay must be at least 0, got -1.0"),
        ({"mixup": -0.1}, "recipe.mixup must be at least 0, got -0.1"),
    ],
)
def test_what_no_head_can_be_trained_with_is_refused(change, told):
    with pytest.raises(UserError) as caught:
        replace(PLAIN, **change)
    assert told in str(caught.value)


@pytest.mark.parametrize("key", ["steps", "batch_size"])
def test_no_steps_and_empty_batches_are_refused(set_of_features, key):
    with pytest.raises(UserError, match=f"recipe.head_training.{key} must be at least 1, got 0"):
        train([head()], [PLAIN], set_of_features, **{key: 0})
