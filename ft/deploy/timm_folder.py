"""A fine-tuned model as timm's own: ``timm.create_model("local-dir:PATH", pretrained=True)``.

timm has one linear layer behind its own pooling. What our head can fold into one is folded, in doubles:

    norm=batch        W (g (x - m) / sqrt(v + eps) + b) + c
    temperature       (W x + c) / T
    numbers           (W x + c) * std + mean
"""

import copy
import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.models import save_for_hf
from torch import Tensor, nn

from ft.deploy.folder import Description
from ft.deploy.network import Network
from ft.deploy.outputs import Outputs
from ft.errors import UserError
from ft.inference.pixels import DTYPES, on_pixels, torch_device
from ft.model.timm_model import TimmModel

REFUSED = (RuntimeError, TypeError, ValueError, AssertionError, KeyError)
PROBLEMS = {
    "classification": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}


def write(folder: Path, model: nn.Module, description: Description, outputs: Outputs) -> None:
    """Writes ``config.json`` and ``model.safetensors``.

    Args:
        folder: An empty one.
        model: Normalised images to logits.
        description: Gives preprocessing, classes, and the licence in its card.
        outputs: What to make of the logits.

    Raises:
        UserError: timm has no such model; names the config key that made it so.
    """
    plain, spec, reading = plain_timm(model, outputs), description.spec, description.reading
    data_config = {
        "input_size": (spec.channels, spec.height, spec.width),
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_pct,
        "crop_mode": "center",
    }
    facts: dict[str, Any] = {"label_names": list(reading.classes), "problem_type": PROBLEMS[reading.task]}
    if description.card.get("license"):
        facts["pretrained_cfg"] = {"license": description.card["license"]}
    try:
        save_for_hf(plain, str(folder), model_config=facts, safe_serialization=True, data_config=data_config)
    except ValueError as error:
        raise UserError(f"format=timm: {error} Change model.kwargs, or choose format=onnx or pt2.") from error
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # transformers gives the number of classes as an argument of its own, and these beside it; timm reads the other.
    config.get("model_args", {}).pop("num_classes", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def plain_timm(model: nn.Module, outputs: Outputs) -> Any:
    """The same function as a timm model with its own classifier, in eval mode, on the CPU.

    Raises:
        UserError: timm has no such model; names the config key that made it so.
    """
    instead = "choose format=onnx or pt2, or train with"
    if not isinstance(model, TimmModel):
        raise UserError(f"format=timm needs a model of timm's, and this is a {type(model).__name__}: {instead} one.")
    if model.pool is not None:
        raise UserError(
            f"format=timm: this backbone has no pool catavgmax of its own: {instead} model.head.pool=avg or max."
        )
    weight, bias = linear_head(model.head)
    plain: Any = copy.deepcopy(model.backbone).cpu()
    plain.reset_classifier(len(bias))
    classifiers = plain.get_classifier()
    # Distilled models have two and take their mean.
    classifiers = classifiers if isinstance(classifiers, tuple) else (classifiers,)
    factor, shift = outputs.factor, outputs.shift
    for classifier in classifiers:
        if not isinstance(classifier, nn.Linear) or classifier.bias is None or classifier.weight.shape != weight.shape:
            name = plain.pretrained_cfg.get("architecture", type(plain).__name__)
            raise UserError(
                f"format=timm: the classifier of {name} is not one linear layer: choose format=onnx or pt2."
            )
        with torch.no_grad():
            classifier.weight.copy_(weight * factor[:, None])
            classifier.bias.copy_(bias * factor + shift)
    return plain.eval().requires_grad_(False)


def linear_head(head: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight ``(K, F)`` and bias ``(K,)``, in doubles, of a head that is one linear function in eval mode.

    Raises:
        UserError: It is not one; names the config key that made it so.
    """
    instead = "choose format=onnx or pt2, or train with"
    parts = dict(head.named_children())
    norm, linear = parts.pop("norm", None), parts.pop("fc", None)
    if any(name.startswith("hidden") for name in parts):
        raise UserError(f"format=timm: timm's head has no hidden layers: {instead} model.head.hidden=[].")
    if isinstance(norm, nn.LayerNorm):
        raise UserError(f"format=timm: timm's head has no norm of its own: {instead} model.head.norm=none or batch.")
    if not isinstance(linear, nn.Linear) or not all(isinstance(part, nn.Dropout) for part in parts.values()):
        raise UserError("format=timm: this model's head is not one of ft's: choose format=onnx or pt2.")
    weight, bias = linear.weight.detach().cpu().double(), linear.bias.detach().cpu().double()
    if norm is None:
        return weight, bias
    assert isinstance(norm, nn.BatchNorm1d)
    state = {name: tensor.cpu().double() for name, tensor in norm.state_dict().items()}
    scale = state["weight"] / (state["running_var"] + norm.eps).sqrt()
    return weight * scale, bias + weight @ (state["bias"] - state["running_mean"] * scale)


def load(folder: Path, description: Description, *, device: str, precision: str) -> Network:
    """Loads it as anybody would who has timm alone.

    Raises:
        UserError: This timm cannot build it.
    """
    where, spec = torch_device(device), description.spec
    try:
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    # timm's models refuse arguments and weights in many ways; the files themselves are whole, their digests say.
    except (*REFUSED, AttributeError, OSError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{folder} cannot be loaded with timm {timm.__version__}: {first}") from error
    model = model.eval().requires_grad_(False).to(where)

    def features(images: Tensor) -> Tensor:
        return model.forward_head(model.forward_features(images), pre_logits=True)

    dtype = DTYPES[precision]
    return Network(on_pixels(model, spec, where, dtype), on_pixels(features, spec, where, dtype), model)
