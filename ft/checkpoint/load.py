"""Reading a checkpoint folder: verified first, never unpickling anything but tensors and plain values."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ft.checkpoint.fsdp import load_whole
from ft.checkpoint.generations import whole_beside
from ft.checkpoint.manifest import STATE, WEIGHTS, Damaged, verify
from ft.errors import UserError
from ft.plain_files import read_tensors


def load(folder: Path) -> dict[str, Any]:
    """The dictionary that was saved.

    Raises:
        UserError: There is no checkpoint, or it is damaged.
    """
    weights = read_weights(folder)
    try:
        rest: Any = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    # As its manifest says, so it is not damaged: it was never one of ours. torch raises nearly anything on such a file.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the checkpoint {folder} cannot be read: {STATE}: {reason}") from None
    if not isinstance(rest, dict):
        raise UserError(f"the checkpoint {folder} cannot be read: {STATE} holds no dictionary.")
    return {**rest, "state_dict": weights}


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights alone, by the LightningModule's names.

    Raises:
        UserError: There is no checkpoint, or it is damaged.
    """
    try:
        verify(folder)
    except Damaged as error:
        raise Damaged(f"{error}{whole_beside(folder)}") from None
    return read_tensors(folder / WEIGHTS)


def load_weights(folder: Path, module: nn.Module) -> None:
    """Loads only the weights, all of them, into a module.

    Raises:
        UserError: There is no checkpoint, or it is damaged.
    """
    load_whole(module, read_weights(folder))


def load_model_weights(folder: Path, model: nn.Module) -> None:
    """Loads a checkpoint's weights into the model alone, without the LightningModule that was trained.

    Raises:
        UserError: There is no checkpoint, it is damaged, or it is of another model.
    """
    kept = read_weights(folder)
    prefix = "model."
    try:
        model.load_state_dict(
            {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}
        )
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint {folder} does not fit its run's model: {str(error).splitlines()[1].strip()}"
        ) from None
