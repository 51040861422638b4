"""torch.export: a graph that ``torch.export.load`` runs where torch is installed, and neither timm nor ft."""

import json
from pathlib import Path

import torch
from torch import nn
from torch.export.passes import move_to_device_pass

from ft.deploy.folder import NORMALIZED, UINT8, Description
from ft.deploy.graph import Graph, example, tracing
from ft.deploy.network import Network
from ft.deploy.outputs import Outputs
from ft.deploy.pt2_check import check_pt2
from ft.errors import UserError
from ft.inference.pixels import DTYPES, on_pixels, torch_device

FILE = "model.pt2"
CLASSES = "classes.json"


def write(folder: Path, model: nn.Module, description: Description, outputs: Outputs) -> None:
    """Writes ``model.pt2``, with the classes inside.

    Args:
        folder: An empty one.
        model: Normalised images to logits.
        description: Gives preprocessing.
        outputs: What to make of the logits.

    Raises:
        UserError: The model cannot be traced.
    """
    graph = Graph(model, description.spec, outputs, preprocess=description.preprocess)
    with tracing("pt2"):
        program = torch.export.export(
            graph,
            (example(description.spec, description.preprocess),),
            dynamic_shapes={"input": {0: torch.export.Dim("batch")}},
        )
        for module in program.graph_module.modules():
            for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                # Paths of this machine.
                node.meta.pop("stack_trace", None)
        extra = {CLASSES: json.dumps(description.reading.classes)}
        torch.export.save(program, folder / FILE, extra_files=extra)


def load(folder: Path, description: Description, *, device: str, precision: str) -> Network:
    """Loads the graph, and moves it.

    Raises:
        UserError: This torch cannot read it.
    """
    where = torch_device(device)
    try:
        check_pt2(folder / FILE)
        program = torch.export.load(folder / FILE)
    except UserError:
        raise
    # The file is whole, its digest says; what another torch's format raises is not documented.
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{folder} cannot be loaded with torch {torch.__version__}: {first}") from error
    if where.type != "cpu":
        program = move_to_device_pass(program, where)
    model = program.module()
    if description.preprocess == NORMALIZED:
        return Network(on_pixels(model, description.spec, where, DTYPES[precision]), model=model)
    assert description.preprocess == UINT8

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(where.type, DTYPES[precision] or torch.bfloat16, enabled=precision != "fp32"):
            return model(pixels.to(where)).float().cpu()

    return Network(run)
