"""Before every stage of every family: prefix and suffix together are the whole model, bit for bit."""

from typing import Any

import pytest
import torch
from torch import nn

from ft.model.stages import Stage
from ft.phases.apply import apply, keep_frozen_in_eval
from ft.phases.plan import phase
from tests.model.test_timm_model import make

DROP_PATH = {"drop_path_rate": 0.3}
ATTENTION = {"attn_drop_rate": 0.2, "proj_drop_rate": 0.1}
# timm name -> side in pixels (None: fixed), and whatever the family can drop
FAMILIES: dict[str, tuple[int | None, dict[str, Any]]] = {
    "test_resnet": (64, {"drop_rate": 0.3}),
    "test_vit": (32, {**DROP_PATH, **ATTENTION, "drop_rate": 0.1, "pos_drop_rate": 0.1}),
    "tf_efficientnet_lite0": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "convnext_atto": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "resnet18": (64, {**DROP_PATH, "drop_rate": 0.3}),
    "efficientnet_b0": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "mobilenetv2_100": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "mobilenetv3_small_050": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "mobilenetv4_conv_small": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "vit_tiny_patch16_224": (64, {**DROP_PATH, **ATTENTION}),
    "deit3_small_patch16_224": (64, {**DROP_PATH, **ATTENTION}),
    "vit_small_patch14_dinov2": (56, {**DROP_PATH, **ATTENTION}),
    "eva02_tiny_patch14_224": (56, {**DROP_PATH, **ATTENTION}),
    "swin_tiny_patch4_window7_224": (112, {**DROP_PATH, **ATTENTION}),
    "regnety_002": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "densenet121": (64, {"drop_rate": 0.2}),
    "fastvit_t8": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "repvit_m1": (64, {"drop_rate": 0.2}),
    "edgenext_xx_small": (64, {**DROP_PATH, "drop_rate": 0.2}),
    "xcit_nano_12_p16_224": (64, {**DROP_PATH, **ATTENTION}),
    "maxvit_nano_rw_256": (None, {**DROP_PATH}),
    "mixer_s16_224": (None, {**DROP_PATH, "drop_rate": 0.1}),
}
QUICK = list(FAMILIES)[:4]
SLOW = [pytest.param(name, marks=pytest.mark.full) for name in list(FAMILIES)[4:]]


def built(name: str):
    size, kwargs = FAMILIES[name]
    torch.manual_seed(0)
    model = make(name, img_size=size, kwargs=kwargs, head={"drop_rate": 0.3})
    images = torch.randn(3, 3, model.input_spec.height, model.input_spec.width)
    return model, images


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_prefix_and_suffix_are_the_whole_model_before_every_stage(name):
    model, images = built(name)
    stages = model.stages()
    assert len(stages) > 3
    for stage in stages[1:]:
        parts = model.split(stage.name)
        assert parts is not None, stage.name
        prefix, suffix = parts
        with torch.no_grad():
            model.eval()
            assert torch.equal(suffix(prefix(images)), model(images)), f"in eval mode before {stage.name}"
        opened = frozenset(each.name for each in stages[stages.index(stage) :])
        now = phase(opened, [], 0, stages, model)
        apply(model, now)
        keep_frozen_in_eval(model.train(), stages, now)
        whole = seeded_step(model, lambda: model(images))
        cut = seeded_step(model, lambda p=prefix, s=suffix: s(p(images)))
        assert torch.equal(whole[0], cut[0]), f"in train mode before {stage.name}"
        assert whole[1].keys() == cut[1].keys()
        for key, gradient in whole[1].items():
            assert torch.equal(gradient, cut[1][key]), (stage.name, key)
        assert not torch.equal(whole[0], model.eval()(images)), "something drops"


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_one_pass_gives_what_crosses_every_boundary(name):
    model, images = built(name)
    model.eval()
    names = [stage.name for stage in model.stages()][1:]
    whole = model.between(None, names)
    assert whole is not None
    with torch.no_grad():
        found = whole(images)
        assert list(found) == names
        for stop in names:
            parts = model.split(stop)
            assert parts is not None
            assert_same(found[stop], parts[0](images))
        middle, later = names[len(names) // 2 - 1], names[len(names) // 2 :]
        onwards = model.between(middle, later)
        assert onwards is not None
        for stop, crossing in onwards(found[middle]).items():
            assert_same(crossing, found[stop])


def assert_same(one, other) -> None:
    for a, b in zip(*([each] if isinstance(each, torch.Tensor) else each for each in (one, other)), strict=True):
        assert torch.equal(a, b)


def seeded_step(model: nn.Module, forward):
    """Logits and gradients under one random state; running statistics are put back."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.manual_seed(1)
    logits = forward()
    names, opened = zip(*[(name, p) for name, p in model.named_parameters() if p.requires_grad], strict=True)
    gradients = torch.autograd.grad(logits.square().sum(), opened, allow_unused=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    return logits.detach(), {n: g for n, g in zip(names, gradients, strict=True) if g is not None}


def test_a_rate_that_changes_between_two_epochs_is_followed():
    model, images = built("test_resnet")
    prefix, suffix = model.split("stage4")
    stages = model.stages()
    now = phase(frozenset({"stage4", "head"}), [], 0, stages, model)
    seen = []
    for rate in (0.0, 0.6, 0.0):
        model.backbone.drop_rate = rate
        keep_frozen_in_eval(model.train(), stages, now)
        whole = seeded_step(model, lambda: model(images))[0]
        assert torch.equal(whole, seeded_step(model, lambda: suffix(prefix(images)))[0])
        seen.append(whole)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_what_crosses_is_a_tensor_of_the_batch():
    model, images = built("test_vit")
    prefix, _ = model.split("stage3")
    crossing = prefix(images)
    assert isinstance(crossing, torch.Tensor)
    assert len(crossing) == len(images)


class Refuses(nn.Module):
    """Branches on its input: no tracer follows that."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, images):
        hidden = self.one(images)
        return self.head(self.two(hidden) if hidden.sum() > 0 else hidden)


class Counts(Refuses):
    """Carries the number of images past the cut."""

    def forward(self, images):
        size = images.shape[0]
        return self.head(self.two(self.one(images)).reshape(size, 4))


@pytest.mark.parametrize("kind", [Refuses, Counts])
def test_a_model_that_cannot_be_cut_is_left_whole(kind):
    from ft.model.split import split

    model = kind()
    stages = [Stage(name, (f"{name}.weight", f"{name}.bias"), (), (name,)) for name in ("one", "two", "head")]
    model.stages = lambda: stages
    assert split(model, stages, "two", torch.randn(2, 4)) is None
    assert all(module.training for module in model.modules())
