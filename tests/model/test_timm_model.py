"""The model's protocol, for every family of conf/model."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from ft.errors import UserError
from ft.model.timm_model import TimmModel, timm_model
from tests.conftest import CONF

HEAD = {"pool": "own", "hidden": [], "activation": "relu", "drop_rate": 0.0, "norm": "none"}
# A model that is not timm's has a ``_target_`` and no name.
FAMILIES = [file for file in sorted((CONF / "model").glob("*.yaml")) if "name" in OmegaConf.load(file)]


def make(name: str = "test_resnet", *, head: dict | None = None, **settings) -> TimmModel:
    defaults = {
        "num_outputs": 3,
        "weights": "none",
        "weights_dir": None,
        "in_chans": 3,
        "img_size": None,
        "drop_path_rate": None,
        "act_layer": None,
        "kwargs": {},
        "input": {},
        "suggested": {},
    }
    return timm_model(name=name, head={**HEAD, **(head or {})}, **{**defaults, **settings})


def family_name(file: Path) -> str:
    return OmegaConf.load(file).name


@pytest.fixture(params=FAMILIES, ids=[file.stem for file in FAMILIES])
def model(request) -> TimmModel:
    torch.manual_seed(0)
    return make(family_name(request.param), suggested={"img_size": 64}).eval()


def images_for(model: TimmModel, count: int = 2) -> torch.Tensor:
    spec = model.input_spec
    return torch.randn(count, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(1))


def test_every_parameter_and_buffer_is_in_exactly_one_stage(model):
    stages = model.stages()
    assert stages[-1].name == "head"
    assert len(stages) >= 3
    for kind, names in (("parameters", dict(model.named_parameters())), ("buffers", dict(model.named_buffers()))):
        listed = [name for stage in stages for name in getattr(stage, kind)]
        assert sorted(listed) == sorted(names)


def test_every_layer_that_has_a_mode_belongs_to_one_stage(model):
    listed = [name for stage in model.stages() for name in stage.modules]
    assert len(listed) == len(set(listed))
    modal = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    for name, module in model.named_modules():
        if isinstance(module, modal) or type(module).__name__ == "DropPath":
            assert name in listed


def test_stages_are_in_the_order_data_flows(model):
    """The first parameter that a stage uses is used before the first one of the next stage."""
    order: list[str] = []
    owner = {name: stage.name for stage in model.stages() for name in stage.modules}
    for name, module in model.named_modules():
        if name in owner and not list(module.children()) and list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, stage=owner[name]: order.append(stage))
    with torch.no_grad():
        model(images_for(model, 1))
    seen = list(dict.fromkeys(order))
    assert seen == [stage.name for stage in model.stages() if stage.name in seen]


def test_split_before_the_head_is_exact(model):
    prefix, suffix = model.split("head")
    images = images_for(model)
    with torch.no_grad():
        assert torch.equal(suffix(prefix(images)), model(images))
    assert model.split("stem") is None


@pytest.mark.full
@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
def test_every_family_pools_in_every_way(pool):
    for file in FAMILIES:
        model = make(family_name(file), suggested={"img_size": 32}, head={"pool": pool}).eval()
        with torch.no_grad():
            assert model(images_for(model, 1)).shape == (1, 3)


def test_catavgmax_stands_both_pools_side_by_side():
    for name in ("test_convnext", "test_vit", "test_resnet"):
        torch.manual_seed(0)
        both = make(name, suggested={"img_size": 32}, head={"pool": "catavgmax"}).eval()
        images = images_for(both, 2)
        halves = []
        for kind in ("avg", "max"):
            torch.manual_seed(0)
            one = make(name, suggested={"img_size": 32}, head={"pool": kind}).eval()
            one.backbone.load_state_dict(both.backbone.state_dict())
            with torch.no_grad():
                halves.append(one.features(images))
        with torch.no_grad():
            assert torch.allclose(both.features(images), torch.cat(halves, 1), atol=1e-6)


def test_the_head_has_the_layers_that_were_asked_for():
    head = make(head={"hidden": [8, 4], "activation": "gelu", "drop_rate": 0.3, "norm": "layer"}).head
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["LayerNorm", "Linear", "GELU", "Dropout", "Linear", "GELU", "Dropout", "Linear"]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.3, 0.3]
    assert head.fc.out_features == 3


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_input_channels_reach_the_model_and_its_input_spec(channels, mode):
    model = make(in_chans=channels, suggested={"img_size": 32}).eval()
    assert (model.input_spec.channels, model.input_spec.pillow_mode) == (channels, mode)
    assert model(images_for(model, 1)).shape == (1, 3)


def test_the_size_is_as_asked_else_as_the_data_suggests_else_as_trained():
    assert make(img_size=96, suggested={"img_size": 64}).input_spec.height == 96
    assert make(suggested={"img_size": 64}).input_spec.height == 64
    assert make().input_spec.height == 160


def test_a_suggested_size_is_rounded_up_to_whole_patches_and_an_asked_one_refused():
    assert make("vit_small_patch14_dinov2", suggested={"img_size": 64}).input_spec.height == 70
    with pytest.raises(UserError, match=r"must be a multiple of test_vit's patch size 16, got 63"):
        make("test_vit", img_size=63)


def test_options_reach_timm():
    assert any(type(m).__name__ == "GELU" for m in make(act_layer="gelu").modules())
    assert any(type(m).__name__ == "DropPath" for m in make("test_vit", img_size=160, drop_path_rate=0.2).modules())
    with pytest.raises(UserError, match=r"model.kwargs.nonsense: model.name=test_resnet does not take it"):
        make(kwargs={"nonsense": 1})


def test_a_model_without_group_matcher_has_a_body_and_a_head():
    names = [stage.name for stage in make("caformer_s18", suggested={"img_size": 64}).stages()]
    assert names[-1] == "head"
    assert len(names) >= 2
