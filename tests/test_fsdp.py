"""trainer=fsdp: parts of the weights compute what whole weights do; checkpoints do not tell the difference."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from ft.checkpoint.fsdp import Fsdp, in_parts, load_whole, outermost, whole
from ft.checkpoint.load import load
from ft.errors import UserError
from ft.phases.apply import apply
from ft.phases.plan import Phase
from tests.conftest import TINY, composed
from tests.test_command_line import ROOT, ft

CPU = ("trainer=fsdp", "trainer.accelerator=cpu")
REFUSED = {
    "recipe=linear": ("a head that is computed from features", "set recipe=full"),
    "model.head_init=solved": ("a head that is computed from features", "model.head_init=null"),
    "cache=auto": ("stored activations", "set cache=off"),
    "optimizer=cg": ("an optimizer that sees all parameters as one", "set optimizer=adamw"),
    "data.on_bad=skip": ("batches that some process has no image of", "set data.on_bad=error"),
    "data.batch_size=1": ("evaluation image by image", "set data.batch_size=2"),
    "trainer.devices=9": ("a split of 8 images on 9 processes", "set trainer.devices=8 or less"),
    "plugins=[ema]": ("plugins.ema", "set plugins without it"),
    "plugins=[sam]": ("plugins.sam", "set plugins without it"),
}


@pytest.mark.parametrize(("override", "told"), REFUSED.items(), ids=REFUSED.keys())
def test_what_needs_whole_weights_is_refused(build_run, pretrained, tmp_path, override, told):
    with pytest.raises(UserError, match="trainer=fsdp leaves each process a part of every weight") as caught:
        build_run(pretrained, *CPU, *([] if override == "cache=auto" else ["cache=off"]), override)
    assert all(part in str(caught.value) for part in told)
    assert not list(tmp_path.glob("2*"))


def test_what_does_not_is_not(build_run, pretrained):
    run = build_run(pretrained, *CPU, "plugins=[gradual_unfreezing,mixup,early_stopping,layer_decay]")
    assert isinstance(run.trainer.strategy, Fsdp)


def test_the_trainer_brings_a_recipe_and_a_cache_that_go_with_it():
    with composed("trainer=fsdp", "trainer.devices=4") as config:
        assert (config.recipe.name, config.cache.activations, config.trainer.devices) == ("full", False, 4)
    with composed("trainer=fsdp", "recipe=linear") as config:
        assert config.recipe.name == "linear"


@pytest.fixture
def strategy() -> Iterator[Fsdp]:
    """Of a group of one process: everything but the other parts."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    strategy = Fsdp()
    strategy._device_mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    yield strategy
    distributed.destroy_process_group()


@pytest.fixture(params=["test_resnet", "test_vit", "test_efficientnet"])
def model(request, build_run) -> Any:
    return build_run(f"model.name={request.param}", "model.img_size=32").module.model


def test_the_units_hold_each_parameter_of_a_stage_once(model):
    for stage in model.stages():
        held = [id(parameter) for module in outermost(model, stage) for parameter in module.parameters()]
        assert len(held) == len(set(held))
        named = dict(model.named_parameters())
        assert set(held) <= {id(named[name]) for name in stage.parameters}
        # Those of no module (a class token) are the whole model's own.
        assert len(named) - len(held) >= 0
        assert all(
            "." not in name.removeprefix("backbone.") for name in stage.parameters if id(named[name]) not in held
        )


def test_a_divided_model_computes_and_moves_as_a_whole_one(strategy, model, build_run):
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected: dict[str, torch.Tensor] = {}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    stages = model.stages()
    phases = [
        Phase(frozenset(names), frozenset(t for s in stages if s.name in names for t in (*s.parameters, *s.buffers)))
        for names in (["head"], [stages[-2].name, "head"])
    ]
    for divided in (False, True):
        model.load_state_dict(start)
        if divided:
            strategy.shard(model)
            strategy.shard(model)  # for test and predict, after fit
            assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for phase in phases:
            apply(model, phase)
            for _ in range(2):
                model(images).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
            with torch.no_grad():
                model.eval()(images)  # leaves nothing gathered: the next phase freezes parts
                model.train()
        found = {name: whole(value).clone() for name, value in model.state_dict().items()}
        if not divided:
            expected = found
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6, msg=name)
    assert any(not torch.equal(start[name], value) for name, value in found.items())


def test_states_go_out_whole_and_come_back_in_parts(strategy, build_run):
    model = build_run().module.model
    strategy.shard(model)
    last = [parameter for name, parameter in model.named_parameters() if name.startswith("head.")]
    optimizer = torch.optim.AdamW(
        [{"params": list(model.parameters())[:-2], "stage": "body"}, {"params": last}], lr=0.1
    )
    for parameter in last:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # the other parameters have never had a gradient, and no state
    state = strategy.optimizer_state(optimizer)
    tensors = [value for entry in state["state"].values() for value in entry.values()]
    assert len(state["state"]) == len(last)
    assert tensors
    assert not any(isinstance(value, DTensor) for value in tensors)
    assert state["param_groups"][0]["stage"] == "body"
    again = torch.optim.AdamW([{"params": list(model.parameters())[:-2]}, {"params": last}], lr=0.5)
    again.load_state_dict(in_parts(state, again))
    assert again.param_groups[0]["lr"] == 0.1
    for parameter in last:
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(whole(again.state[parameter][key]), whole(value))
        assert isinstance(again.state[parameter]["exp_avg"], DTensor)

    weights = {name: torch.full_like(whole(value), 3) for name, value in model.state_dict().items()}
    load_whole(model, weights)
    assert all(torch.equal(whole(value), weights[name]) for name, value in model.state_dict().items())


# Of two processes, in every process: half of each stage is here, and gathering it gives what there was.
HALVES = """
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from ft.checkpoint.fsdp import Fsdp, whole
from ft.model.timm_model import timm_model
distributed.init_process_group("gloo")
torch.manual_seed(0)
head = {"pool": "own", "hidden": [], "activation": "relu", "drop_rate": 0.0, "norm": "none"}
model = timm_model(num_outputs=5, name="test_vit", weights="none", weights_dir=None, in_chans=3, img_size=32,
    drop_path_rate=None, act_layer=None, kwargs={}, input={}, head=head, suggested={})
before = {name: value.clone() for name, value in model.state_dict().items()}
strategy = Fsdp()
strategy._device_mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
strategy.shard(model)
everything = sum(parameter.numel() for parameter in model.parameters())
here = sum(parameter.to_local().numel() for parameter in model.parameters())
assert abs(here / everything - 0.5) < 0.02, here / everything
for name, value in model.state_dict().items():
    assert torch.equal(whole(value), before[name]), name
distributed.destroy_process_group()
"""


def torchrun(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Two processes on a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)


def run_in(folder: Path) -> Path:
    (run,) = [path.parent for path in folder.glob("*/config.yaml") if not path.parent.is_symlink()]
    return run


def two_phases(folder: Path, model: str) -> list[str]:
    """Three epochs; the last stages open in the second and third. Validation images do not divide evenly."""
    torch.manual_seed(0)
    file = folder / f"{model}.safetensors"
    if not file.exists():
        state = timm.create_model(model).state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, file)
    plain = [word for word in TINY if not word.startswith(("model.weights", "model.name", "trainer.max_epochs"))]
    return [
        *plain,
        f"model.name={model}",
        f"model.weights='{file}'",
        "model.img_size=32",
        "data.batch_size=4",
        "data.num_images=36",
        "schedule=constant",
        "cache=off",
        "plugins=[gradual_unfreezing]",
        "plugins.gradual_unfreezing.epochs_per_phase=1",
    ]


@pytest.mark.full
def test_each_process_holds_half(tmp_path):
    (tmp_path / "halves.py").write_text(HALVES)
    result = torchrun(str(tmp_path / "halves.py"))
    assert result.returncode == 0, result.stderr


@pytest.mark.full
@pytest.mark.parametrize(("model", "optimizer"), [("test_resnet", "sgd"), ("test_vit", "adamw")])
def test_a_run_in_parts_is_the_run_of_ddp(tmp_path, model, optimizer):
    options = [*two_phases(tmp_path, model), f"optimizer={optimizer}", "trainer.max_epochs=2"]
    for trainer in ("fsdp", "ddp"):
        words = [*options, f"trainer={trainer}", "trainer.accelerator=cpu", f"runs_dir='{tmp_path}/{trainer}'"]
        result = ft(*words)
        assert result.returncode == 0, result.stderr
    fsdp, ddp = (load(run_in(tmp_path / name) / "checkpoints" / "last") for name in ("fsdp", "ddp"))
    start = load_start(tmp_path / f"{model}.safetensors")
    assert fsdp["state_dict"].keys() == ddp["state_dict"].keys()
    moved = set()
    for name, value in fsdp["state_dict"].items():
        torch.testing.assert_close(value, ddp["state_dict"][name], rtol=0, atol=1e-5, msg=name)
        known = start.get(name.removeprefix("model.backbone."))
        if known is not None and not torch.equal(known, value):
            moved.add(name)
    assert 0 < len(moved) < len(start)  # the stage that opened; not those that are still frozen
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (fsdp, ddp)]
    assert states[0].keys() == states[1].keys()

    run = run_in(tmp_path / "fsdp")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test/loss"] == pytest.approx(
        json.loads((run_in(tmp_path / "ddp") / "summary.json").read_text())["test/loss"], abs=1e-5
    )
    # One process reads it.
    result = ft(f"run='{run}'", verb="evaluate")
    assert result.returncode == 0, result.stderr
    evaluated = json.loads((run / "evaluation_test.json").read_text())
    assert evaluated["intervals"]["auroc"]["value"] == pytest.approx(summary["test/auroc"], abs=1e-5)


def load_start(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


@pytest.mark.full
def test_a_run_in_parts_goes_on_in_parts_or_in_one_process(tmp_path):
    options = [*two_phases(tmp_path, "test_vit"), *CPU, "optimizer=adamw"]
    for name, epochs in (("whole", 3), ("cut", 2)):
        result = torchrun("-m", "ft.train", *options, f"trainer.max_epochs={epochs}", f"runs_dir='{tmp_path}/{name}'")
        assert result.returncode == 0, result.stderr
    cut = run_in(tmp_path / "cut")
    (tmp_path / "alone").mkdir()
    subprocess.run(["cp", "-r", cut, tmp_path / "alone" / cut.name], check=True)
    assert torchrun("-m", "ft.train", f"resume='{cut}'", "trainer.max_epochs=3").returncode == 0
    alone = tmp_path / "alone" / cut.name
    one = ("trainer.strategy=auto", "trainer.devices=1", "data.batch_size=8")
    result = ft(f"resume='{alone}'", "trainer.max_epochs=3", *one)
    assert result.returncode == 0, result.stderr
    expected = load(run_in(tmp_path / "whole") / "checkpoints" / "last")["state_dict"]
    for run, most in ((cut, 1e-6), (alone, 1e-4)):
        for name, value in load(run / "checkpoints" / "last")["state_dict"].items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=most, msg=f"{run} {name}")
