"""Reading a checkpoint folder: verified first, never unpickling anything but tensors and plain values."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ft.checkpoint.fsdp import load_whole
from ft.checkpoint.manifest import STATE, WEIGHTS, verify
from ft.errors import UserError


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
    load_whole(module, load_file(folder / WEIGHTS))


def load_model_weights(folder: Path, model: nn.Module) -> None:
    """Loads a checkpoint's weights into the model alone, without the LightningModule that was trained.

    Raises:
        UserError: There is no checkpoint, it is damaged, or it is of another model.
    """
    verify(folder)
    kept = load_file(folder / WEIGHTS)
    prefix = "model."
    try:
        model.load_state_dict(
            {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}
        )
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint {folder} does not fit its run's model: {str(error).splitlines()[1].strip()}"
        ) from None
