"""A head and a pool as timm's own: what can be folded is the same function, what cannot is refused by name."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from ft.deploy.load import load_exported
from ft.deploy.outputs import outputs_of
from ft.deploy.timm_folder import plain_timm, write
from ft.errors import UserError
from ft.instantiate import instantiate
from tests.conftest import composed
from tests.deploy.made import described, reading_of, unlike_new

COUNT = 5


def model_of(*overrides: str):
    """A model of random weights, with statistics of its own."""
    with composed("model.name=test_resnet", "model.weights=none", "model.img_size=32", *overrides) as config:
        settings = {
            key: value for key, value in config.model.items() if key not in ("num_classes", "head_init", "open")
        }
        built = {**settings, "input": dict(config.model.input), "head": dict(config.model.head), "kwargs": {}}
        torch.manual_seed(0)
        return unlike_new(
            instantiate({**built, "num_outputs": COUNT, "suggested": dict(config.data.suggested)}, "model")
        )


def exported_as(folder, model, reading, temperature="fold"):
    """The folder, and what is expected of it: outputs for random normalised images."""
    folder.mkdir()
    outputs = outputs_of(reading, temperature=temperature)
    description = described("timm", model.input_spec, outputs.reading)
    write(folder, model, description, outputs)
    description.save(folder)
    return outputs


def images_for(model):
    spec = model.input_spec
    return torch.randn(3, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(2))


KINDS = {
    "linear": (),
    "batch norm in the head": ("model.head.norm=batch", "model.head.drop_rate=0.3"),
    "pool that doubles the width": ("model.head.pool=catavgmax",),
    "pool of a ViT": ("model.name=test_vit", "model.head.pool=avg"),
    "ViT": ("model.name=test_vit",),
    "ViT of another size": ("model.name=test_vit", "model.img_size=64"),
    "convnext": ("model.name=test_convnext", "model.head.pool=max"),
    "grey": ("model.in_chans=1",),
    "four channels": ("model.in_chans=4",),
    "other activation": ("model.act_layer=gelu", "model.drop_path_rate=0.1"),
    "own preprocessing": (
        "model.input.crop_pct=0.8",
        "model.input.interpolation=lanczos",
        "model.input.mean=[0.1,0.2,0.3]",
    ),
}


@pytest.mark.parametrize("overrides", KINDS.values(), ids=KINDS.keys())
def test_plain_timm_computes_the_same(tmp_path, overrides):
    model = model_of(*overrides)
    exported_as(tmp_path / "timm", model, reading_of("classification", COUNT))
    plain = timm.create_model(f"local-dir:{tmp_path}/timm", pretrained=True).eval()
    images = images_for(model)
    expected = model(images)
    assert expected.std() > 1e-3
    assert torch.allclose(plain(images), expected, atol=1e-5)
    assert list(plain.pretrained_cfg["label_names"]) == [f"name {at}" for at in range(COUNT)]
    spec, config = model.input_spec, timm.data.resolve_model_data_config(plain)
    assert tuple(config["input_size"]) == (spec.channels, spec.height, spec.width)
    for key in ("mean", "std"):
        assert tuple(config[key]) == pytest.approx(getattr(spec, key))
    assert (config["interpolation"], config["crop_pct"], config["crop_mode"]) == (
        spec.interpolation,
        spec.crop_pct,
        "center",
    )
    assert sorted(path.name for path in (tmp_path / "timm").iterdir()) == [
        "config.json",
        "ft.json",
        "model.safetensors",
    ]


READINGS = {
    "temperature": reading_of("classification", COUNT, temperature=2.5),
    "labels": reading_of("multilabel", COUNT, temperature=0.5, thresholds=(0.1, 0.5, 0.3, 0.7, 0.9)),
    "numbers": reading_of("regression", COUNT, mean=(10.0, -3.0, 0.0, 5.0, 100.0), std=(2.0, 0.5, 1.0, 7.0, 30.0)),
}


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_what_the_user_is_told_needs_no_knowledge_of_temperature_or_unit(tmp_path, reading, norm):
    model = model_of(f"model.head.norm={norm}")
    exported_as(tmp_path / "timm", model, reading)
    found, images = load_exported(tmp_path / "timm"), images_for(model)
    plain = found.model(images)
    told = {"softmax": plain.softmax(1), "sigmoid": plain.sigmoid(), "linear": plain}[reading.activation]
    assert torch.allclose(told, reading.tell(model(images)), atol=1e-4)
    assert torch.allclose(found.reading.tell(plain), told)
    assert found.reading.thresholds == reading.thresholds
    # Far from what the model itself puts out: the fold is not nothing.
    assert not torch.allclose(plain, model(images), atol=1e-2)


def test_a_temperature_that_is_stored_leaves_the_logits_alone(tmp_path):
    model, reading = model_of(), READINGS["temperature"]
    exported_as(tmp_path / "timm", model, reading, temperature="store")
    found, images = load_exported(tmp_path / "timm"), images_for(model)
    assert torch.allclose(found.model(images), model(images), atol=1e-5)
    assert found.reading == reading


REFUSED = {
    "model.head.hidden=[8]": "model.head.hidden=",
    "model.head.norm=layer": "model.head.norm=none or batch",
    "model.head.pool=catavgmax model.name=test_vit": "model.head.pool=avg or max",
}


@pytest.mark.parametrize(("overrides", "told"), REFUSED.items())
def test_a_head_that_timm_has_not_is_refused_by_its_key(overrides, told):
    model = model_of(*overrides.split())
    with pytest.raises(UserError, match=r"format=onnx or pt2") as caught:
        plain_timm(model, outputs_of(reading_of("classification", COUNT), temperature="fold"))
    assert told in str(caught.value)


def test_models_and_classifiers_of_another_kind_are_refused():
    outputs = outputs_of(reading_of("classification", COUNT), temperature="fold")
    with pytest.raises(UserError, match="needs a model of timm's, and this is a Linear"):
        plain_timm(nn.Linear(2, COUNT), outputs)
    model = model_of()
    model.backbone.get_classifier = lambda: nn.Conv2d(1, COUNT, 1)
    with pytest.raises(UserError, match="the classifier of test_resnet is not one linear layer"):
        plain_timm(model, outputs)


def test_the_trained_model_is_left_as_it_was():
    model, images = model_of(), torch.randn(2, 3, 32, 32)
    before = model(images)
    plain_timm(model, outputs_of(READINGS["numbers"], temperature="fold"))
    assert torch.equal(model(images), before)
    assert isinstance(model.backbone.get_classifier(), nn.Identity)


def test_transformers_loads_it(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = model_of("model.name=test_vit", "model.img_size=64", "model.in_chans=1")
    exported_as(tmp_path / "timm", model, reading_of("multilabel", COUNT))
    found = transformers.TimmWrapperForImageClassification.from_pretrained(tmp_path / "timm").eval()
    images = images_for(model)
    assert torch.allclose(found(pixel_values=images).logits, model(images), atol=1e-5)
    assert found.config.id2label == {at: f"name {at}" for at in range(COUNT)}
    assert found.config.problem_type == "multi_label_classification"


def test_lora_is_merged(tmp_path, train_run, pretrained):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    from ft.build.trained import load_predictor

    run = train_run("plugins=[lora]", "model.weights=auto", pretrained, "optimizer.lr=0.01")
    predictor = load_predictor(run.folder)
    reading = replace(predictor.reading, temperature=1.0)
    exported_as(tmp_path / "timm", predictor.model, reading)
    names = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert names["architecture"] == "test_resnet"
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(load_exported(tmp_path / "timm").run(pixels), predictor.run(pixels), atol=1e-4)
