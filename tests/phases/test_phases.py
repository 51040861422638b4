"""Freezing is a value that one place applies: gradients, statistics, dropout, and the optimizer all follow."""

from typing import ClassVar

import pytest
import torch

from ft.errors import UserError
from ft.fit import fit
from ft.phases.apply import apply, keep_frozen_in_eval
from ft.phases.plan import boundary, open_stages, start_value
from ft.plugin import Plugin
from tests.conftest import weights_of
from tests.model.test_timm_model import make

STAGES = ("stem", "stage1", "stage2", "head")


class HeadFirst(Plugin):
    """Opens everything from the second epoch on; counts every hook it is asked in."""

    asked: ClassVar[list[str]] = []

    def open_stages(self, open, epoch, stages):
        return frozenset(["head"]) if epoch == 0 else frozenset(stages)


def test_the_start_value_is_all_head_or_names():
    assert start_value("all", STAGES) == frozenset(STAGES)
    assert start_value("head", STAGES) == {"head"}
    assert start_value(["stage2", "head"], STAGES) == {"stage2", "head"}
    with pytest.raises(UserError, match=r"model.open=stage9: the model's stages are stem, stage1, stage2, head"):
        start_value(["stage9"], STAGES)


def test_the_boundary_is_the_first_open_stage():
    assert boundary(frozenset({"head", "stage2"}), STAGES) == "stage2"
    assert boundary(frozenset({"stem", "head"}), STAGES) == "stem"


def test_plugins_are_folded_in_order_and_watched():
    class Close(Plugin):
        def open_stages(self, open, epoch, stages):
            return frozenset()

    class Invent(Plugin):
        def open_stages(self, open, epoch, stages):
            return open | {"stage9"}

    assert open_stages(frozenset(STAGES), [HeadFirst()], 0, STAGES) == {"head"}
    assert open_stages(frozenset(["head"]), [HeadFirst()], 1, STAGES) == frozenset(STAGES)
    with pytest.raises(UserError, match="Close"):
        open_stages(frozenset(STAGES), [Close()], 0, STAGES)
    with pytest.raises(UserError, match="Invent opens 'stage9'"):
        open_stages(frozenset(STAGES), [Invent()], 0, STAGES)


def test_frozen_stages_have_no_gradients_and_are_in_eval_mode():
    model = make("test_resnet", suggested={"img_size": 32})
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.train()
    opened = frozenset({"stage4", "head"})
    apply(model, model.stages(), opened)
    keep_frozen_in_eval(model, model.stages(), opened)
    for stage in model.stages():
        for name in stage.parameters:
            parameter = model.get_parameter(name)
            assert parameter.requires_grad == (stage.name in opened)
            assert (parameter.grad is None) == (stage.name not in opened)
        for name in stage.modules:
            assert model.get_submodule(name).training == (stage.name in opened)


def changed(run, before) -> set[str]:
    """Stages of which a parameter or buffer differs from before."""
    after = {name.removeprefix("model."): value for name, value in weights_of(run).items()}
    return {
        stage.name
        for stage in run.module.model.stages()
        for name in (*stage.parameters, *stage.buffers)
        if not torch.equal(after[name], before[name])
    }


def state_of(run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.module.model.state_dict().items()}


@pytest.mark.parametrize(
    ("opened", "moves"),
    [("head", {"head"}), ("[stage4,head]", {"stage4", "head"}), ("[stage2,head]", {"stage2", "head"})],
)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_open_stages_move(build_run, pretrained, opened, moves, optimizer):
    run = build_run(pretrained, f"model.open={opened}", f"optimizer={optimizer}", "optimizer.weight_decay=0.1")
    before = state_of(run)
    fit(run, started=0.0)
    assert changed(run, before) == moves


def test_random_weights_open_every_stage(build_run):
    run = build_run("model.open=head")
    assert run.module.opened == frozenset(run.module.stage_names)


def test_a_plugin_opens_stages_and_the_optimizer_stays_as_it_is(build_run, pretrained):
    run = build_run(pretrained, "trainer.max_epochs=1")
    run.module.plugins.append(HeadFirst())
    before = state_of(run)
    fit(run, started=0.0)
    assert changed(run, before) == {"head"}
    listed = [p for group in run.trainer.optimizers[0].param_groups for p in group["params"]]
    assert len(listed) == len(list(run.module.model.parameters()))


def test_frozen_dropout_drops_nothing_and_open_dropout_does():
    model = make("test_vit", img_size=160, head={"drop_rate": 0.5}, drop_path_rate=0.9)
    stages = model.stages()
    images = torch.randn(4, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    model.train()
    apply(model, stages, frozenset({"head"}))
    keep_frozen_in_eval(model, stages, frozenset({"head"}))
    assert torch.equal(model.features(images), model.features(images))
    features = model.features(images)
    assert not torch.equal(model.head(features), model.head(features))
    opened = frozenset({"stage6", "head"})
    keep_frozen_in_eval(model.train(), stages, opened)
    paths = {name: m for name, m in model.named_modules() if type(m).__name__ == "DropPath"}
    assert {name.split(".")[2] for name, m in paths.items() if m.training} == {"5"}  # stage6 is blocks.5
    assert len(paths) > 2
