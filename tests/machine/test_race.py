"""Measuring leaves no trace, halves what does not fit, and goes on where a layer lacks a precision."""

import itertools
import random

import numpy as np
import pytest
import timm
import torch
from torch import nn

from ft.input_spec import InputSpec
from ft.machine.decide import Variant
from ft.machine.probe import Probe
from ft.machine.race import measure

SPEC = InputSpec(32, 32, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
BOTH = {"frozen": ("fp32", "bf16"), "train": ("fp32", "bf16")}
FP32, BF16 = Variant("fp32", True), Variant("bf16", True)


def run_measure(model, **changes):
    settings = {"device": torch.device("cpu"), "batch": 8, "precisions": BOTH, "available": 1, **changes}
    return measure(model, SPEC, **settings)


class Odd(nn.Module):
    """Refuses some inputs."""

    def __init__(self, refuse):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)
        self.refuse = refuse
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        self.refuse(self, images)
        return self.layer(images).mean((2, 3))


def test_the_model_the_generators_and_the_threads_are_as_before(monkeypatch):
    # Every way takes equally long, so that none is given up, whatever else the machine does.
    ticks = itertools.count()
    monkeypatch.setattr(Probe, "now", lambda probe: next(ticks) / 100)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3, drop_rate=0.5)
    model.train()
    model.layer1.eval()
    model.conv1[0].weight.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    identities = {name: id(tensor) for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    threads = torch.get_num_threads()

    timings = run_measure(model)

    assert {BF16, FP32} <= set(timings.frozen)
    assert {BF16, FP32} <= set(timings.train)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert identities == {name: id(tensor) for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.array_equal(np.random.get_state()[1], generators[2])
    assert torch.get_num_threads() == threads
    assert torch.equal(model.fc.weight.grad, torch.ones_like(model.fc.weight))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "fc.weight")
    assert not model.conv1[0].weight.requires_grad


def test_the_model_is_as_before_after_ctrl_c():
    def interrupt(model, images):
        if model.training:
            raise KeyboardInterrupt

    model = Odd(interrupt).eval()
    with pytest.raises(KeyboardInterrupt):
        run_measure(model)
    assert not model.training


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no"), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you")]
)
def test_the_batch_is_halved_while_it_does_not_fit(error):
    def refuse(model, images):
        if model.training and len(images) > 2:
            raise error

    model = Odd(refuse)
    timings = run_measure(model, batch=4)
    assert timings.train[FP32].limit == 2
    assert timings.frozen[FP32].limit == 0  # a forward pass needs less
    assert set(model.sizes) == {4, 2}


def test_a_layer_that_lacks_bf16_leaves_fp32():
    def refuse(model, images):
        if torch.is_autocast_enabled("cpu"):
            raise NotImplementedError("not implemented for 'BFloat16'")

    timings = run_measure(Odd(refuse))
    assert set(timings.frozen) == set(timings.train) == {FP32, Variant("fp32", False)}


def test_a_model_that_never_works_is_measured_as_nothing():
    def refuse(model, images):
        raise ValueError("Expected more than 1 value per channel when training")

    timings = run_measure(Odd(refuse))
    assert timings.frozen == timings.train == timings.frozen_threads == timings.train_threads == {}


def test_when_the_time_is_over_only_the_first_way_is_measured():
    ticks = iter(range(0, 10**6, 100))
    timings = run_measure(Odd(lambda model, images: None), clock=lambda: float(next(ticks)))
    assert set(timings.frozen) == set(timings.train) == {FP32}


def test_all_threads_are_tried_whatever_the_time(monkeypatch):
    monkeypatch.setattr("ft.machine.race.Others.were_busy", lambda self: False)
    ticks, nows = itertools.count(step=100), itertools.count()
    monkeypatch.setattr(Probe, "now", lambda probe: next(nows) / 100)
    timings = run_measure(Odd(lambda model, images: None), clock=lambda: float(next(ticks)), available=4)
    assert set(timings.frozen_threads) == set(timings.train_threads) == {2, 4}, "1 would be another way still"


def test_kept_activations_are_counted_without_the_weights():
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 32 * 32, 2))
    timings = run_measure(model, precisions={"frozen": ("fp32",), "train": ("fp32",)})
    images, convolved, activated = 3 * 32 * 32 * 4, 4 * 32 * 32 * 4, 4 * 32 * 32 * 4
    assert timings.bytes_an_image == pytest.approx(images + activated, abs=convolved)
    assert timings.bytes_an_image >= images + activated
