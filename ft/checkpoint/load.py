"""Reading a checkpoint folder: verified first, never unpickling anything but tensors and plain values."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ft.checkpoint.manifest import STATE, WEIGHTS, verify


def load(folder: Path) -> dict[str, Any]:
    """The dictionary that was saved.

    Raises:
        UserError: There is no checkpoint, or it is damaged.
    """
    verify(folder)
    rest = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    return {**rest, "state_dict": load_file(folder / WEIGHTS)}


def load_weights(folder: Path, module: nn.Module) -> None:
    """Loads only the weights, all of them, into a module.

    Raises:
        UserError: There is no checkpoint, or it is damaged.
    """
    verify(folder)
    module.load_state_dict(load_file(folder / WEIGHTS))
