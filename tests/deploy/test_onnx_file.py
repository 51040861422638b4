"""The ONNX file by itself: what its inside says, and that it computes without us."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ft.build.trained import load_predictor
from ft.deploy.folder import NORMALIZED
from ft.deploy.onnx_file import write
from ft.deploy.outputs import outputs_of
from ft.inference.reading import Reading
from ft.input_spec import InputSpec
from tests.deploy.made import described, reading_of

# One worker traces them all.
pytestmark = pytest.mark.xdist_group("exports")


def test_inputs_outputs_opset_and_metadata(trained, exports):
    file = exports["onnx"].path / "model.onnx"
    model = onnx.load(file)
    (given,), (found,) = model.graph.input, model.graph.output
    shape = [each.dim_param or each.dim_value for each in given.type.tensor_type.shape.dim]
    assert (given.name, shape) == ("input", ["batch", 3, 32, 32])
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [each.dim_param or each.dim_value for each in found.type.tensor_type.shape.dim] == ["batch", 3]
    assert found.name == "logits"
    assert [each.version for each in model.opset_import if each.domain == ""] == [18]
    assert sorted(path.name for path in exports["onnx"].path.iterdir()) == ["README.md", "ft.json", "model.onnx"]

    predictor = load_predictor(trained)
    facts = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["ant", "bee", "cat"]
    assert Reading.from_dict(json.loads(facts["reading"])) == predictor.reading
    preprocessing, spec = json.loads(facts["preprocessing"]), predictor.spec
    assert preprocessing["center_crop"] == [32, 32]
    assert preprocessing["resize_to_cover"] == [33, 33]
    assert (preprocessing["input"], preprocessing["layout"]) == ("uint8", "NCHW")
    assert preprocessing["mean"] == list(spec.mean)
    assert preprocessing["std"] == list(spec.std)


def test_nothing_of_the_machine_is_inside(exports):
    for format, name in (("onnx", "model.onnx"), ("pt2", "model.pt2")):
        content = (exports[format].path / name).read_bytes()
        assert b"site-packages" not in content
        assert b".py" not in content


class Sums(torch.nn.Module):
    def forward(self, images):
        return images.mean((2, 3)) * 3


def test_normalised_floats_are_the_other_kind_of_input(tmp_path):
    spec, reading = (
        InputSpec(8, 6, (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0),
        reading_of("regression", 3, std=(2.0,) * 3),
    )
    outputs = outputs_of(reading, temperature="fold")
    description = described("onnx", spec, outputs.reading, preprocess=NORMALIZED, settings={"opset": 20})
    write(tmp_path, Sums(), description, outputs)
    images = np.random.default_rng(0).normal(size=(5, 3, 8, 6)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["logits"], {"input": images})
    assert np.allclose(found, images.mean((2, 3)) * 6, atol=1e-5)
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 20
