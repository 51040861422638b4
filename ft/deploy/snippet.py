"""The program on a model card: from a file to an answer, without ft."""

from ft.deploy.folder import UINT8, Description
from ft.deploy.pt2_file import CLASSES
from ft.inference.reading import LINEAR, SOFTMAX

IMAGE = "photo.jpg"


def snippet(description: Description, address: str | None) -> str:
    """Python that prints the answer for ``photo.jpg`` as a dictionary; it runs inside the exported folder.

    Args:
        description: Of the export.
        address: The repository on the hub that a timm model is loaded from; ``None``: from this folder.
    """
    make = {"timm": _timm, "onnx": _onnx, "pt2": _pt2}[description.format]
    return make(description, f"hf-hub:{address}" if address else "local-dir:.")


def _timm(description: Description, source: str) -> str:
    told = {"softmax": ".softmax(1)", "sigmoid": ".sigmoid()"}.get(description.reading.activation, "")
    logits = _tempered("model(image)", description)
    return f"""\
import timm
from PIL import Image, ImageOps

model = timm.create_model("{source}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
image = transform({_open(description)})[None]
print(dict(zip(model.pretrained_cfg["label_names"], {logits}{told}[0].tolist())))"""


def _onnx(description: Description, source: str) -> str:
    del source
    return f"""\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])

{_pixels(description)}
logits = session.run(None, {{"input": images}})[0][0]
{_answer(description)}"""


def _pt2(description: Description, source: str) -> str:
    del source
    return f"""\
import json

import numpy as np
import torch
from PIL import Image, ImageOps

files = {{"{CLASSES}": ""}}
model = torch.export.load("model.pt2", extra_files=files).module()
classes = json.loads(files["{CLASSES}"])

{_pixels(description)}
logits = model(torch.from_numpy(images))[0].numpy(force=True)
{_answer(description)}"""


def _open(description: Description) -> str:
    return f'ImageOps.exif_transpose(Image.open("{IMAGE}")).convert("{description.spec.pillow_mode}")'


def _pixels(description: Description) -> str:
    spec = description.spec
    height, width, channels = spec.height, spec.width, spec.channels
    cover = f"max({int(height / spec.crop_pct)} / image.height, {int(width / spec.crop_pct)} / image.width)"
    lines = [
        f"image = {_open(description)}",
        f"scale = {cover}",
        "size = round(image.width * scale), round(image.height * scale)",
        f"image = image.resize(size, Image.Resampling.{spec.interpolation.upper()})",
        f"left, top = (image.width - {width}) // 2, (image.height - {height}) // 2",
        f"crop = np.asarray(image.crop((left, top, left + {width}, top + {height})))",
        f"images = crop.reshape(1, {height}, {width}, {channels}).transpose(0, 3, 1, 2).copy()",
    ]
    if description.preprocess != UINT8:
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            lines.append(f"{name} = np.array({list(values)}, np.float32).reshape(-1, 1, 1)")
        lines.append("images = (images.astype(np.float32) / 255 - mean) / std")
    return "\n".join(lines)


def _answer(description: Description) -> str:
    activation, logits = description.reading.activation, _tempered("logits", description)
    if activation == LINEAR:
        return "print(dict(zip(classes, logits.tolist())))"
    lines = (
        [f"powers = np.exp({logits} - ({logits}).max())", "probabilities = powers / powers.sum()"]
        if activation == SOFTMAX
        else [f"probabilities = 1 / (1 + np.exp(-({logits})))"]
    )
    return "\n".join([*lines, "print(dict(zip(classes, probabilities.tolist())))"])


def _tempered(logits: str, description: Description) -> str:
    temperature = description.reading.temperature
    return logits if temperature == 1 else f"({logits} / {temperature})"
