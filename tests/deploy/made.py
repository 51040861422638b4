"""What the tests of this room share: photos of odd sizes, a tiny run on them, a model with statistics of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from ft.build.run import build
from ft.deploy.folder import Description
from ft.deploy.options import Options
from ft.fit import fit
from ft.inference.reading import Reading
from ft.input_spec import InputSpec
from ft.run_folder import RunFolder
from tests.conftest import TINY, composed

CLASSES = ("ant", "bee", "cat")
# Width and height: squares, wide and tall ones, sides that do not divide, one smaller than the model's input.
SIZES = ((40, 40), (64, 64), (47, 81), (81, 47), (50, 33), (33, 50), (97, 61), (61, 97), (20, 31), (128, 45))
PHOTOS = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]


def make_photos(folder: Path, each: int) -> Path:
    """``folder/CLASS/N.png``: pictures with structure in every colour, of ``SIZES`` in turn."""
    generator = np.random.default_rng(0)
    for shift, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            width, height = SIZES[(number + shift) % len(SIZES)]
            noise = generator.integers(0, 100, (height, width, 3))
            ramp = np.linspace(0, 155, width)[None, :, None] * np.eye(3)[shift]
            Image.fromarray((noise + ramp).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def train_on(photos: Path, runs: Path, *overrides: str) -> RunFolder:
    """A finished tiny run on a folder of photos."""
    with composed(
        *PHOTOS, "data=folder", f"data.root='{photos}'", "model.img_size=32", f"runs_dir='{runs}'", *overrides
    ) as config:
        run = build(config)
    fit(run, started=0.0)
    return run.folder


def options(**changes: Any) -> Options:
    """The defaults of ``conf/export.yaml``."""
    with composed(config="export") as config:
        wishes: Any = OmegaConf.to_container(config)
    return Options.of({**wishes, **changes})


def unlike_new(model: nn.Module) -> nn.Module:
    """Gives every normalisation statistics and weights of its own, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) / 2)
    return model.eval()


def described(format: str, spec: InputSpec, reading: Reading, **changes: Any) -> Description:
    """A description as an export has it before it is checked."""
    facts = {"backbone": "test", "weights": "random", "license": None, "run": "run", "data": "photos"}
    return Description(format, spec, reading, **{"card": facts, **changes})


def reading_of(task: str, count: int, **changes: Any) -> Reading:
    """Of ``count`` outputs of a task."""
    activation = {"classification": "softmax", "multilabel": "sigmoid", "regression": "linear"}[task]
    return Reading(task, tuple(f"name {at}" for at in range(count)), activation, **changes)


def train_table(photos: Path, folder: Path, task: str) -> RunFolder:
    """A finished tiny run on a table of those photos: two labels, or two numbers, an image."""
    table = folder / "labels.csv"
    rows = ["file,one,two"]
    for at, file in enumerate(sorted(photos.glob("*/*.png"))):
        values = (at % 2, at % 3 // 2) if task == "multilabel" else (at * 10, 1000 - at)
        rows.append(f"{file},{values[0]},{values[1]}")
    table.write_text("\n".join(rows) + "\n")
    overrides = ("data=table", f"data.csv_file='{table}'", "data.numeric=true", f"task={task}", "model.img_size=32")
    with composed(*PHOTOS, *overrides, f"runs_dir='{folder}/runs'") as config:
        run = build(config)
    fit(run, started=0.0)
    return run.folder
