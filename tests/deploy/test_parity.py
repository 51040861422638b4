"""One file, one crop, one answer: validation, prediction and every export; and where timm's own transform differs."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from ft.build.trained import load_predictor
from ft.data.images import open_image
from ft.data.transforms import EvaluationTransform
from ft.deploy.load import is_exported, load_exported
from ft.inference.predictions import Predictions
from ft.input_spec import InputSpec
from tests.deploy.made import SIZES

# One worker traces them all.
pytestmark = pytest.mark.xdist_group("exports")


FORMATS = ("timm", "onnx", "pt2")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_prediction_and_export_say_the_same_of_every_file(trained, photos, exports, format, split):
    stored = Predictions.load(trained.path, split)
    predictor, exported = load_predictor(trained), load_exported(exports[format].path)
    pixels = torch.stack([exported.transform(open_image(str(photos / name))) for name in stored.names])
    assert len(pixels) >= 9
    assert exported.reading == predictor.reading == stored.reading
    for logits in (predictor.run(pixels), exported.run(pixels)):
        assert torch.allclose(logits, stored.logits, atol=1e-4, rtol=0)
        assert torch.equal(logits.argmax(1), stored.logits.argmax(1))


def test_an_export_says_what_it_is(trained, exports):
    predictor = load_predictor(trained)
    for format, export in exports.items():
        assert is_exported(export.path)
        found = load_exported(export.path)
        assert found.spec == predictor.spec
        assert found.origin == str(export.path)
        assert found.card["license"] == "mit"
        assert (found.model is None) == (format == "onnx")
    assert not is_exported(trained.path)


def test_a_timm_export_has_the_features_of_the_run(trained, exports):
    predictor, exported = load_predictor(trained), load_exported(exports["timm"].path)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert predictor.embed is not None
    assert exported.embed is not None
    assert torch.allclose(predictor.embed(pixels), exported.embed(pixels), atol=1e-5)


def test_bf16_is_near_fp32_and_not_the_same(exports):
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    for format in ("timm", "pt2"):
        path = exports[format].path
        fine, coarse = load_exported(path).run(pixels), load_exported(path, precision="bf16").run(pixels)
        assert coarse.dtype == torch.float32
        assert 0 < float((fine - coarse).abs().max()) < 0.1


def timm_crop(spec: InputSpec, image: Image.Image) -> np.ndarray:
    """``(H, W, C)``: what timm's evaluation transform shows of an image, before scale, mean and std."""
    transform = timm.data.create_transform(
        (spec.channels, spec.height, spec.width),
        interpolation=spec.interpolation,
        crop_pct=spec.crop_pct,
        crop_mode="center",
    )
    resize, crop = transform.transforms[:2]
    return np.asarray(crop(resize(image)))


def crops_agree(spec: InputSpec, width: int, height: int) -> bool:
    """Where timm's transform has to show the same pixels: it rounds the longer side down, and half a margin to even."""
    short, side = min(width, height), int(spec.height / spec.crop_pct)
    for length, size in ((width, spec.width), (height, spec.height)):
        ours, theirs = round(length * side / short), int(side * length / short)
        if ours != theirs or (ours - size) // 2 != round((theirs - size) / 2):
            return False
    return True


@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_timms_own_transform_differs_by_rounding_alone(crop_pct, interpolation):
    spec = InputSpec(32, 32, (0.5,) * 3, (0.5,) * 3, interpolation, crop_pct)
    generator = np.random.default_rng(0)
    agreed = []
    for width, height in SIZES:
        image = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        ours, theirs = EvaluationTransform(spec)(image).permute(1, 2, 0).numpy(), timm_crop(spec, image)
        agreed.append(crops_agree(spec, width, height))
        assert np.array_equal(ours, theirs) == agreed[-1]
    # 32 / 0.9 is 35: a margin of 1.5 pixels, whatever the image.
    assert any(agreed) == (crop_pct != 0.9)
    assert not all(agreed)


PLAIN = {
    "timm": """
import timm, torch
model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
normalize = timm.data.create_transform(**timm.data.resolve_model_data_config(model)).transforms[2:]
with torch.inference_mode():
    for name in json.loads(sys.argv[2]):
        pixels = crop(Image.open(name))
        for step in normalize:
            pixels = step(pixels)
        print(json.dumps(model(pixels[None])[0].tolist()))
""",
    "onnx": """
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(f"{sys.argv[1]}/model.onnx")
for name in json.loads(sys.argv[2]):
    pixels = np.asarray(crop(Image.open(name))).transpose(2, 0, 1)[None]
    print(json.dumps(session.run(["logits"], {"input": pixels})[0][0].tolist()))
assert "torch" not in sys.modules
""",
    "pt2": """
import numpy as np, torch
model = torch.export.load(f"{sys.argv[1]}/model.pt2").module()
mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec["mean"], spec["std"]))
for name in json.loads(sys.argv[2]):
    pixels = torch.from_numpy(np.asarray(crop(Image.open(name))).copy()).permute(2, 0, 1)
    print(json.dumps(model(((pixels.float() / 255 - mean) / std)[None])[0].tolist()))
assert "timm" not in sys.modules
""",
}
# Pillow alone.
CROP = """
import json, sys
from PIL import Image
spec = json.loads(sys.argv[3])
def crop(image):
    image = image.convert("RGB")
    scale = int(spec["width"] / spec["crop_pct"]) / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    image = image.resize(size, Image.Resampling[spec["interpolation"].upper()])
    left, top = (image.width - spec["width"]) // 2, (image.height - spec["height"]) // 2
    return image.crop((left, top, left + spec["width"], top + spec["height"]))
"""


@pytest.mark.full
@pytest.mark.parametrize("format", FORMATS)
def test_a_process_without_ft_agrees_on_all_test_images(trained, photos, exports, format, tmp_path):
    predictor, stored = load_predictor(trained), Predictions.load(trained.path, "test")
    files = [str(photos / name) for name in stored.names]
    program = f"{CROP}{PLAIN[format]}\nassert not [name for name in sys.modules if name.split('.')[0] == 'ft']"
    printed = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            str(exports[format].path),
            json.dumps(files),
            json.dumps(asdict(predictor.spec)),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    ).stdout
    found = torch.tensor([json.loads(line) for line in printed.splitlines()])
    ours = predictor.run(torch.stack([predictor.transform(open_image(file)) for file in files]))
    assert torch.allclose(found, ours, atol=1e-4, rtol=0)
    assert torch.equal(found.argmax(1), ours.argmax(1))


@pytest.mark.full
@pytest.mark.parametrize("format", FORMATS)
def test_the_program_on_the_card_runs_without_ft(trained, photos, exports, format, tmp_path):
    card = (exports[format].path / "README.md").read_text(encoding="utf-8")
    program = card.partition("```python\n")[2].partition("```")[0]
    # A square, where timm's own transform shows the same pixels.
    square = photos / "ant" / "0.png"
    for file in exports[format].path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    Image.open(square).save(tmp_path / "photo.jpg", quality=95)
    watched = f"{program}\nimport sys\nassert not [name for name in sys.modules if name.split('.')[0] == 'ft']"
    result = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert result.stderr == ""
    predictor = load_predictor(trained)
    told = predictor.reading.tell(predictor.run(predictor.transform(Image.open(Path(tmp_path / "photo.jpg")))[None]))
    expected = dict(zip(predictor.reading.classes, told[0].tolist(), strict=True))
    assert eval(result.stdout) == pytest.approx(expected, abs=1e-4)
