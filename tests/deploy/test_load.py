"""An exported folder that is not whole, or not of this version, is refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ft.deploy.load import is_exported, load_exported
from ft.errors import UserError

# One worker traces them all.
pytestmark = pytest.mark.xdist_group("exports")


@pytest.fixture(params=["timm", "onnx", "pt2"])
def folder(request, exports, tmp_path) -> Path:
    return Path(shutil.copytree(exports[request.param].path, tmp_path / "export"))


def weights_of(folder: Path) -> Path:
    return next(file for file in folder.iterdir() if file.suffix in (".safetensors", ".onnx", ".pt2"))


def changed(folder: Path, **values) -> None:
    file = folder / "ft.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_one_flipped_byte_is_found(folder):
    file = weights_of(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"is damaged: {file.name} is not the file that was exported. Export it again"):
        load_exported(folder)


def test_a_missing_file_is_named(folder):
    file = weights_of(folder)
    file.unlink()
    with pytest.raises(UserError, match=rf"is damaged: {file.name} is missing"):
        load_exported(folder)
    (folder / "ft.json").unlink()
    assert not is_exported(folder)


def test_other_versions_and_formats_and_text_are_refused(folder):
    whole = (folder / "ft.json").read_text()
    changed(folder, version=2)
    with pytest.raises(UserError, match=r"was exported as version 2, and this is version 1"):
        load_exported(folder)
    (folder / "ft.json").write_text(whole)
    changed(folder, format="tflite")
    with pytest.raises(UserError, match=r"is of format tflite; known are timm, onnx, pt2"):
        load_exported(folder)
    for wrong in ("{", "[]", "{}", whole.replace('"classes"', '"clases"'), whole.replace('"spec"', '"spek"')):
        (folder / "ft.json").write_text(wrong)
        with pytest.raises(UserError, match=r"ft.json is damaged"):
            load_exported(folder)


def test_a_card_may_be_edited(folder):
    (folder / "README.md").write_text("mine")
    assert load_exported(folder).run(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 3)


def test_what_a_runtime_cannot_do_is_told(exports):
    with pytest.raises(UserError, match="an ONNX export computes in fp32"):
        load_exported(exports["onnx"].path, precision="bf16")
    with pytest.raises(UserError, match="precision=fp8 is not a choice"):
        load_exported(exports["timm"].path, precision="fp8")
    for format in ("timm", "pt2", "onnx"):
        with pytest.raises(UserError, match="device=mps"):
            load_exported(exports[format].path, device="mps")
