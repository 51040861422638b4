"""Exported folders from anybody: a graph with code in it, a model of another name, weights of somebody else's file."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ft.deploy.load import load_exported
from ft.deploy.outputs import outputs_of
from ft.deploy.pt2_check import check_pt2
from ft.deploy.pt2_file import write
from ft.errors import UserError
from ft.input_spec import InputSpec
from tests.deploy.made import described, reading_of
from tests.hostile.payloads import Runs
from tests.hostile.test_payloads import refused

SPEC, READING = InputSpec(32, 32, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0), reading_of("classification", 2)
Files = dict[str, bytes]


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """A real ``.pt2``, as ``ft.export`` writes it."""
    folder = tmp_path_factory.mktemp("graph")
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    write(folder, model, described("pt2", SPEC, READING), outputs_of(READING, temperature="fold"))
    return folder / "model.pt2"


@pytest.fixture
def graph(whole) -> Files:
    """Its files."""
    with zipfile.ZipFile(whole) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def in_model(change: Callable[[Any], None]) -> Callable[[Files, Path], None]:
    def changed(files: Files, marker: Path) -> None:
        content = json.loads(files["models/model.json"])
        change((content, marker))
        files["models/model.json"] = json.dumps(content).encode()

    return changed


def nodes(content: Any) -> Any:
    return content["graph_module"]["graph"]["nodes"]


def inputs(content: Any) -> Any:
    return content["graph_module"]["graph"]["inputs"]


def sample_inputs(files: Files, marker: Path) -> None:
    out = io.BytesIO()
    torch.save(((Runs(marker),), {}), out)
    files["data/sample_inputs/model.pt"] = out.getvalue()


def in_config(kind: str, **entry: Any) -> Callable[[Files, Path], None]:
    def changed(files: Files, marker: Path) -> None:
        out = io.BytesIO()
        torch.save(Runs(marker), out)
        name = f"data/{kind}/model_{kind}_config.json"
        config = json.loads(files[name])
        known = json.loads(files["data/weights/model_weights_config.json"])["config"]
        config["config"]["x"] = {**next(iter(known.values())), **entry}
        files[name] = json.dumps(config).encode()
        files[f"data/{kind}/{entry['path_name']}"] = out.getvalue()

    return changed


def pickled(name: str) -> Callable[[Files, Path], None]:
    def changed(files: Files, marker: Path) -> None:
        out = io.BytesIO()
        torch.save({"0.weight": Runs(marker)}, out)
        files[name] = out.getvalue()

    return changed


CODE = "x = __import__('os').mkdir({!r}); y"
ATTACKS: dict[str, Callable[[Files, Path], None]] = {
    "sample inputs": sample_inputs,
    "a pickled weight": in_config("weights", path_name="weight_99", use_pickle=True),
    "a pickled constant": in_config("constants", path_name="tensor_99", use_pickle=True),
    "a custom object": in_config("constants", path_name="custom_obj_0", use_pickle=True),
    "an opaque object": in_config("constants", path_name="opaque_obj_0", use_pickle=True),
    "a weight elsewhere": in_config("weights", path_name="../../../etc/passwd", use_pickle=False),
    "weights of an older format": pickled("data/weights/model.pt"),
    "constants of an older format": pickled("data/constants/model.pt"),
    "a compiled library": lambda files, marker: files.update({"data/aotinductor/model/model.so": b"\x7fELF"}),
    "another model": lambda files, marker: files.update({"models/other.json": files["models/model.json"]}),
    "code in the name of a node": in_model(lambda given: nodes(given[0])[0].update(name=CODE.format(str(given[1])))),
    "code in the name of an input": in_model(
        lambda given: inputs(given[0])[0]["as_tensor"].update(name=CODE.format(str(given[1])))
    ),
    "code in the name of an argument": in_model(
        lambda given: nodes(given[0])[0]["inputs"][0].update(name=CODE.format(str(given[1])))
    ),
    "code in a key": in_model(
        lambda given: given[0]["graph_module"]["graph"]["tensor_values"].update({CODE.format(str(given[1])): {}})
    ),
    "code as a shape": in_model(
        lambda given: nodes(given[0])[0]["inputs"].append(
            {"name": "x", "kind": 1, "arg": {"as_sym_int": {"as_expr": {"expr_str": CODE[4:-3].format(str(given[1]))}}}}
        )
    ),
    **{
        f"the operator {target}": in_model(lambda given, target=target: nodes(given[0])[0].update(target=target))
        for target in (
            "torch.hub.load", "torch.load", "torch.ops.load_library", "torch.os.system", "os.system", "", "#torch.x",
            "torch.ops.aten.from_file.default", "torch.ops.aten.conv2d.__class__", "torch.utils.cpp_extension.load",
            "_operator.methodcaller", "_operator.attrgetter",
            "math.__loader__", "torch.serialization.load", "torch.ops.mine.x.default",
        )
    },
    "an operator as an argument": in_model(
        lambda given: nodes(given[0])[0]["inputs"].append({"name": "x", "arg": {"as_operator": "torch.load"}})
    ),
    "an object in the tree of inputs": in_model(
        lambda given: given[0]["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec=json.dumps([1, {"type": "mine.Thing", "context": "null", "children_spec": []}])
        )
    ),
}  # fmt: skip


def zipped(files: Files, file: Path, **beside: bytes) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {**{f"model/{name}": content for name, content in files.items()}, **beside}.items():
            archive.writestr(name, content)


def exported(place: Path, format: str, files: Files) -> Path:
    folder = place / "export"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    described(format, SPEC, READING).save(folder)
    return folder


def test_a_real_one_is_read(whole, graph, tmp_path):
    check_pt2(whole)
    zipped(graph, tmp_path / "model.pt2")
    folder = exported(tmp_path, "pt2", {"model.pt2": (tmp_path / "model.pt2").read_bytes()})
    assert load_exported(folder).run(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 2)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_graph_with_anything_else_in_it_is_refused(attack, graph, tmp_path, marker):
    before = dict(graph)
    ATTACKS[attack](graph, marker)
    assert graph != before
    zipped(graph, tmp_path / "model.pt2")
    folder = exported(tmp_path, "pt2", {"model.pt2": (tmp_path / "model.pt2").read_bytes()})
    message = refused(lambda: load_exported(folder))
    assert (
        "it holds" in message or "its graph has" in message or "is not a plain tensor" in message or "eights" in message
    )
    assert not marker.exists()


def test_a_file_of_the_older_format_is_refused(graph, tmp_path, marker):
    older = {"version": b"8.8", "serialized_state_dict.pt": pickle.dumps(Runs(marker))}
    zipped(graph, tmp_path / "model.pt2", **older)
    folder = exported(tmp_path, "pt2", {"model.pt2": (tmp_path / "model.pt2").read_bytes()})
    assert "beside its folder" in refused(lambda: load_exported(folder))


def test_torch_alone_would_have_run_it(graph, tmp_path):
    # Without this the others would be about nothing.
    sample_inputs(graph, tmp_path / "ran")
    zipped(graph, tmp_path / "model.pt2")
    with pytest.raises(Exception):  # noqa: B017, PT011 - what it makes of the result is its own affair
        torch.export.load(tmp_path / "model.pt2").module()(*[torch.zeros(1)])
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "os.system", "num_classes": 2},
        {"architecture": "hf-hub:somebody/model", "num_classes": 2},
        {"architecture": "local-dir:/tmp", "num_classes": 2},
        {"architecture": "../../test_resnet", "num_classes": 2},
        {"architecture": 7},
        {"architecture": "test_resnet", "num_classes": 2, "model_args": {"checkpoint_path": "MARKER.pth"}},
        {"architecture": "test_resnet", "num_classes": 2, "model_args": {"pretrained_cfg_overlay": {"file": "x"}}},
        {"architecture": "test_resnet", "num_classes": 2, "model_args": {"act_layer": "os.system"}},
        {"architecture": "test_resnet", "num_classes": 2, "model_args": {"norm_layer": "torch.load"}},
        {"architecture": "test_resnet", "num_classes": 2, "model_args": {"block": "eval"}},
        {"architecture": "test_resnet", "num_classes": 2, "model_args": [1]},
        {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": {"custom_load": "hf", "hf_hub_id": "a/b"}},
        {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": {"url": "file:///etc/passwd"}},
        {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": {"_target_": "os.system"}},
        [1],
        {},
    ],
    ids=json.dumps,
)
def test_a_timm_folder_of_another_name_or_with_other_arguments_is_refused(config, tmp_path, marker, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = json.dumps(config).replace("MARKER", str(tmp_path / "bad"))
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Runs(marker)))
    folder = exported(
        tmp_path, "timm", {"config.json": text.encode(), "model.safetensors": b"\x02" + b"\0" * 7 + b"{}"}
    )
    refused(lambda: load_exported(folder))


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../b", "x\0y", "C:\\x", "con.txt", "x" * 300, "..", ""]
)
def test_an_export_lists_files_of_its_own_folder_only(name, tmp_path):
    folder = exported(tmp_path, "onnx", {"model.onnx": b"x"})
    content = json.loads((folder / "ft.json").read_text())
    content["files"][name] = "0" * 64
    (folder / "ft.json").write_text(json.dumps(content))
    assert "is no file of this folder" in refused(lambda: load_exported(folder))


@pytest.mark.parametrize("place", ["../../secret", "/etc/hostname", "link"])
def test_weights_of_an_onnx_graph_are_in_its_folder(place, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "secret").write_bytes(b"\1" * 64)
    tensor = onnx.TensorProto(name="w", dims=[16], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", "0"), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    value = onnx.helper.make_tensor_value_info("logits", 1, [16])
    made = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["logits"])], "g", [], [value], [tensor])
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    deep = tmp_path / "deep"
    deep.mkdir()
    folder = exported(deep, "onnx", {"model.onnx": model.SerializeToString()})
    if place == "link":
        os.symlink(tmp_path / "secret", folder / "link")
    refused(lambda: load_exported(folder))


def test_an_export_is_refused_with_a_file_that_was_changed(tmp_path):
    folder = exported(tmp_path, "onnx", {"model.onnx": b"x"})
    shutil.copyfile(folder / "ft.json", folder / "model.onnx")
    with pytest.raises(UserError, match="is not the file that was exported"):
        load_exported(folder)
