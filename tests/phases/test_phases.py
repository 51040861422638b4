"""Freezing is a value that one place applies: gradients, statistics, dropout, and the optimizer all follow."""

from typing import ClassVar

import pytest
import torch

from ft.errors import UserError
from ft.fit import fit
from ft.phases.apply import apply, keep_frozen_in_eval
from ft.phases.plan import boundary, open_stages, phase, start_value
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
    with pytest.raises(
        UserError, match=r"model.open names 'stage9'; the model's stages are stem, stage1, stage2, head"
    ):
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
    opened = {"stage4", "head"}
    now = phase(frozenset(opened), [], 0, model.stages(), model)
    apply(model, now)
    keep_frozen_in_eval(model, model.stages(), now)
    for stage in model.stages():
        for name in stage.parameters:
            parameter = model.get_parameter(name)
            assert parameter.requires_grad == (stage.name in opened)
            assert (parameter.grad is None) == (stage.name not in opened)
        for name in stage.modules:
            assert model.get_submodule(name).training == (stage.name in opened)


class OnlyBiases(Plugin):
    name = "only_biases"

    def open_tensors(self, open, model):
        return frozenset(name for name in open if name.endswith("bias") and "head" not in name)


def test_single_tensors_can_train_and_statistics_freeze_with_their_layer():
    model = make("test_resnet", suggested={"img_size": 32})
    now = phase(frozenset({"stage4", "head"}), [OnlyBiases()], 0, model.stages(), model)
    assert now.stages == {"stage4"}
    apply(model, now)
    keep_frozen_in_eval(model.train(), model.stages(), now)
    opened = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert opened
    assert all(name.endswith("bias") and "layer4" in name for name in opened)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)


def test_a_plugin_cannot_open_what_was_closed_and_something_must_train():
    class Everything(Plugin):
        def open_tensors(self, open, model):
            return frozenset(name for name, _ in model.named_parameters())

    class Nothing(Plugin):
        name = "nothing"

        def open_tensors(self, open, model):
            return frozenset()

    model = make("test_resnet", suggested={"img_size": 32})
    assert phase(frozenset({"head"}), [Everything()], 0, model.stages(), model).stages == {"head"}
    with pytest.raises(UserError, match=r"nothing is left to train in epoch 3: plugins=\['nothing'\]"):
        phase(frozenset({"head"}), [Nothing()], 3, model.stages(), model)


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
    assert run.module.phase_at(0).stages == frozenset(run.module.stage_names)


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
    only_head = phase(frozenset({"head"}), [], 0, stages, model)
    apply(model, only_head)
    keep_frozen_in_eval(model, stages, only_head)
    assert torch.equal(model.features(images), model.features(images))
    features = model.features(images)
    assert not torch.equal(model.head(features), model.head(features))
    opened = frozenset({"stage6", "head"})
    keep_frozen_in_eval(model.train(), stages, phase(opened, [], 0, stages, model))
    paths = {name: m for name, m in model.named_modules() if type(m).__name__ == "DropPath"}
    assert {name.split(".")[2] for name, m in paths.items() if m.training} == {"5"}  # stage6 is blocks.5
    assert len(paths) > 2


def test_timms_functional_dropout_of_a_frozen_backbone_drops_nothing():
    model = make("test_resnet", suggested={"img_size": 32}, kwargs={"drop_rate": 0.5})
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    stages = model.stages()
    for opened, drops in ((["head"], False), (["stage4", "head"], True)):
        keep_frozen_in_eval(model.train(), stages, phase(frozenset(opened), [], 0, stages, model))
        assert torch.equal(model.features(images), model.features(images)) != drops


def test_a_batch_of_one_image_is_normalised_by_the_running_statistics(train_run):
    # At 32 pixels the last feature map of one image is a single number a channel: torch would refuse it.
    run = train_run("data.batch_size=1", "trainer.max_epochs=1")
    assert run.trainer.global_step == 32
    assert int(run.module.model.backbone.layer4[0].bn1.num_batches_tracked) == 0
