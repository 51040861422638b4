from types import SimpleNamespace
from typing import Any

import pytest
import torch
from timm.optim.lookahead import Lookahead
from torch import nn

from ft.errors import UserError
from plugins.sam import Sam, ascent


def test_the_climb_has_length_rho_along_the_gradient():
    (step,) = ascent([torch.zeros(2)], [torch.tensor([3.0, 4.0])], rho=0.5, adaptive=False, eta=0.01)
    assert step.tolist() == pytest.approx([0.3, 0.4])


def test_the_length_is_that_of_all_weights_together():
    steps = ascent([torch.zeros(1)] * 2, [torch.tensor([3.0]), torch.tensor([4.0])], rho=1.0, adaptive=False, eta=0)
    assert [step.item() for step in steps] == pytest.approx([0.6, 0.8])


def test_the_adaptive_climb_is_measured_in_units_of_each_weight():
    # T = |w| + eta = (2, 1); T g = (6, 4); rho T^2 g / |T g| = rho (12, 4) / sqrt(52).
    (step,) = ascent([torch.tensor([-1.5, 0.5])], [torch.tensor([3.0, 4.0])], rho=1.0, adaptive=True, eta=0.5)
    assert step.tolist() == pytest.approx([12 / 52**0.5, 4 / 52**0.5])


def test_a_gradient_of_zero_climbs_nowhere():
    (step,) = ascent([torch.ones(2)], [torch.zeros(2)], rho=0.5, adaptive=False, eta=0)
    assert step.tolist() == [0.0, 0.0]


class Toy:
    """One weight, loss ``w^2``, as the plugin sees a module and a trainer."""

    def __init__(self, model, loss, optimizer) -> None:
        self.module: Any = SimpleNamespace(model=model, device=torch.device("cpu"), repeating=False)
        self.trainer: Any = SimpleNamespace(optimizers=[optimizer])
        self.optimizer = optimizer
        self.loss = loss
        self.calls: list[tuple[float, bool]] = []

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.calls.append((loss.item(), self.module.repeating))
        return loss


def toy(wrap=lambda optimizer: optimizer) -> tuple[nn.Parameter, Toy]:
    model: Any = nn.Module()
    model.w = nn.Parameter(torch.tensor(2.0))
    return model.w, Toy(model, lambda: model.w**2, wrap(torch.optim.SGD(model.parameters(), lr=0.1)))


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, Lookahead])
def test_the_gradient_above_moves_the_weight_from_where_it_was(wrap):
    weight, world = toy(wrap)
    plugin = Sam(rho=0.5, adaptive=False, eta=0.01)
    plugin.on_train_start(world.trainer, world.module)
    loss = world.optimizer.step(world.closure)
    assert world.calls == [(4.0, False), (6.25, True)]
    assert loss.item() == 4.0
    # 2 - 0.1 * 2 * (2 + 0.5)
    assert weight.item() == pytest.approx(1.5)
    assert not world.module.repeating


def test_it_is_registered_once_and_released_at_the_end():
    _, world = toy()
    plugin = Sam(rho=0.5, adaptive=False, eta=0.01)
    plugin.on_train_start(world.trainer, world.module)
    plugin.on_train_start(world.trainer, world.module)
    world.optimizer.step(closure=world.closure)
    assert len(world.calls) == 2
    plugin.on_train_end(world.trainer, world.module)
    world.optimizer.step(closure=world.closure)
    assert len(world.calls) == 3


def test_with_rho_zero_nothing_is_registered():
    _, world = toy()
    plugin = Sam(rho=0.0, adaptive=False, eta=0.01)
    plugin.on_train_start(world.trainer, world.module)
    assert not plugin.handles
    world.optimizer.step(world.closure)
    assert len(world.calls) == 1


def test_batch_statistics_are_updated_once_and_weights_come_back_exactly():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    images = torch.randn(8, 3)
    # A rate of 0: what moves was not put back.
    world = Toy(
        model, lambda: model(images).pow(2).sum() + model[0].weight.sum(), torch.optim.SGD(model.parameters(), lr=0.0)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plugin = Sam(rho=0.5, adaptive=False, eta=0.01)
    plugin.on_train_start(world.trainer, world.module)
    world.optimizer.step(closure=world.closure)
    after = model.state_dict()
    assert world.calls[0][0] != world.calls[1][0]
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert after["1.num_batches_tracked"] == 1
    expected = 0.1 * nn.functional.linear(images, before["0.weight"], before["0.bias"]).mean(0)
    assert torch.allclose(after["1.running_mean"], expected, atol=1e-6)


def test_dropout_drops_the_same_in_both_passes():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1, bias=False))
    drawn: list[torch.Tensor] = []
    model[0].register_forward_hook(lambda module, inputs, output: drawn.append(output))
    world = Toy(model, lambda: model(torch.ones(1, 64)).sum(), torch.optim.SGD(model.parameters(), lr=0.1))
    plugin = Sam(rho=0.5, adaptive=False, eta=0.01)
    plugin.on_train_start(world.trainer, world.module)
    world.optimizer.step(closure=world.closure)
    assert torch.equal(drawn[0], drawn[1])


def test_a_batch_without_a_readable_image_is_no_step():
    weight, world = toy()
    plugin = Sam(rho=0.5, adaptive=False, eta=0.01)
    plugin.on_train_start(world.trainer, world.module)
    assert world.optimizer.step(closure=lambda: None) is None
    assert weight.item() == 2.0


def test_the_logged_loss_is_that_of_the_weights(runs):
    still = ("optimizer=sgd", "optimizer.lr=1e-12", "optimizer.weight_decay=0", "trainer.max_epochs=1")
    plain, sam = (runs.train(*chosen, *still) for chosen in ((), ("plugins=[sam]",)))
    assert sam.metrics.rows[0]["train/loss"] == plain.metrics.rows[0]["train/loss"]


def test_a_negative_rho_is_refused():
    with pytest.raises(UserError, match=r"plugins.sam.rho must be at least 0, got -1"):
        Sam(rho=-1, adaptive=False, eta=0.01)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer=lbfgs", "needs a mini-batch optimizer, and optimizer=lbfgs"),
        ("trainer.accumulate_grad_batches=2", "set trainer.accumulate_grad_batches=1, got 2"),
    ],
)
def test_what_it_does_not_go_with_is_refused(build_run, setting, words):
    with pytest.raises(UserError, match=words):
        build_run("plugins=[sam]", setting)


def test_a_gradient_scaler_is_refused(build_run):
    run = build_run("plugins=[sam]")
    trainer: Any = SimpleNamespace(
        accumulate_grad_batches=1, precision="16-mixed", precision_plugin=SimpleNamespace(scaler=object())
    )
    with pytest.raises(UserError, match=r"trainer.precision=16-mixed, whose gradient scaler"):
        run.module.plugins[0].prepare(run.module, trainer, run.loaders)
