"""One tiny run, and its exports, for all tests of this room: tracing costs seconds."""

from pathlib import Path

import pytest

from ft.build.sample import run_sample
from ft.build.trained import load_predictor
from ft.deploy.write import Exported, look_at, write_export
from ft.run_folder import RunFolder
from tests.deploy.made import make_photos, options, train_on

CARD = {"backbone": "test_resnet", "weights": "random", "license": "mit", "run": "run", "data": "photos"}


@pytest.fixture(scope="package")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 20)


@pytest.fixture(scope="package")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train_on(photos, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="package")
def exports(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Every format, with the trained model's own logits; ONNX and torch.export take pixels."""
    folder = tmp_path_factory.mktemp("exports")
    predictor = load_predictor(trained)
    sample = run_sample(trained, predictor.spec, 64)
    images = look_at(predictor, sample.source, sample.pixels)
    settings = {"onnx": {"opset": 18, "preprocess": "uint8"}, "pt2": {"preprocess": "normalized"}}
    how = options(temperature="store", **settings)
    return {
        format: write_export(predictor, images, format, folder / format, options=how, card=CARD, address=None)
        for format in ("timm", "onnx", "pt2")
    }
