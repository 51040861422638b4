"""ONNX: one file that onnxruntime runs, with classes and preprocessing in its metadata.

input (batch, C, H, W), normalised floats or the uint8 crop  ->  logits (batch, K)
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ft.data.transforms import normalize
from ft.deploy.folder import UINT8, Description
from ft.deploy.graph import Graph, example, tracing
from ft.deploy.network import Network
from ft.deploy.outputs import Outputs
from ft.errors import UserError, require_extra
from ft.inference.pixels import torch_device

FILE = "model.onnx"
# The exporter writes this opset itself; for others it translates, and none below.
LOWEST_OPSET = 18
# A protobuf message, and so a file without a second one for its weights, ends at 2 GiB.
ONE_FILE_BYTES = 2_000_000_000


def require_onnx() -> None:
    """Refuses where a package of the extra is missing.

    Raises:
        UserError: Names the extra.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require_extra(package, "export", "format=onnx")


def write(folder: Path, model: nn.Module, description: Description, outputs: Outputs) -> None:
    """Writes ``model.onnx``, checked by ``onnx.checker``.

    Args:
        folder: An empty one.
        model: Normalised images to logits.
        description: Gives preprocessing and, in ``settings``, the ``opset``.
        outputs: What to make of the logits.

    Raises:
        UserError: The model cannot be traced.
    """
    import onnx

    graph = Graph(model, description.spec, outputs, preprocess=description.preprocess)
    with tracing("onnx"):
        program = torch.onnx.export(
            graph,
            (example(description.spec, description.preprocess),),
            dynamo=True,
            verbose=False,
            opset_version=description.settings["opset"],
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes={"input": {0: "batch"}},
        )
    assert program is not None
    _forget_sources(program.model)
    program.model.metadata_props.update(metadata(description))
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    program.save(folder / FILE, external_data=size > ONE_FILE_BYTES)
    onnx.checker.check_model(folder / FILE, full_check=True)


def metadata(description: Description) -> dict[str, str]:
    """What stands in the file itself, each value as JSON."""
    spec = description.spec
    facts = {
        "classes": description.reading.classes,
        "reading": description.reading.as_dict(),
        "preprocessing": {
            "resize_to_cover": [int(spec.height / spec.crop_pct), int(spec.width / spec.crop_pct)],
            "center_crop": [spec.height, spec.width],
            "interpolation": spec.interpolation,
            "mode": spec.pillow_mode,
            "layout": "NCHW",
            "input": description.preprocess,
            "mean": spec.mean,
            "std": spec.std,
        },
    }
    return {name: json.dumps(value) for name, value in facts.items()}


def load(folder: Path, description: Description, *, device: str, precision: str) -> Network:
    """A session of onnxruntime.

    Raises:
        UserError: It is not installed, or cannot compute so.
    """
    require_extra("onnxruntime", "export", "an ONNX export")
    import onnxruntime

    if precision != "fp32":
        raise UserError(f"precision={precision}: an ONNX export computes in fp32. Set precision=fp32.")
    providers = onnxruntime.get_available_providers()
    wanted = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
    if device == "auto" and wanted not in providers:
        wanted = "CPUExecutionProvider"
    if wanted not in providers or (device != "auto" and torch_device(device).type not in ("cpu", "cuda")):
        raise UserError(f"device={device}: this onnxruntime has {', '.join(providers)}. Set device=cpu.")
    options = onnxruntime.SessionOptions()
    # As many as torch was given; by default it takes every core and spins on it.
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(folder / FILE, options, providers=[wanted])
    # onnxruntime's errors have no other base that is public.
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} cannot be loaded with onnxruntime {onnxruntime.__version__}: {first}") from error

    def run(pixels: Tensor) -> Tensor:
        images = pixels if description.preprocess == UINT8 else normalize(pixels, description.spec)
        found: Any = session.run(None, {"input": np.ascontiguousarray(images.numpy())})[0]
        return torch.from_numpy(found)

    return Network(run)


def _forget_sources(model: Any) -> None:
    """Takes out where in whose source tree each node was traced: paths of this machine, and a third of the file."""
    import onnx_ir

    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        for part in (node, *node.outputs):
            part.metadata_props.clear()
            part.doc_string = None
    for part in (model.graph, *model.graph.inputs, *model.graph.initializers.values()):
        part.metadata_props.clear()
