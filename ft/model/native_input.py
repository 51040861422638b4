"""The images a backbone is built for: their side, and the preprocessing its weights were trained with."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from ft.errors import require
from ft.input_spec import InputSpec


def side_for(asked: int | None, suggested: int | None, name: str, fixed: bool) -> int | None:
    """The side to build for: as asked, else as the data suggests, in whole patches where the model has them."""
    if not fixed or (asked or suggested) is None:
        return asked or suggested
    with torch.device("meta"):
        embed = getattr(timm.create_model(name, num_classes=0), "patch_embed", None)
    size = getattr(embed, "patch_size", 1)
    patch = size if isinstance(size, int) else size[0]
    if asked:
        require(asked % patch == 0, "model.img_size", f"must be a multiple of {name}'s patch size {patch}", asked)
        return asked
    assert suggested is not None
    return -(-suggested // patch) * patch


def native_input(
    backbone: nn.Module, card: dict[str, Any], wishes: dict[str, Any], in_chans: int, size: int | None
) -> InputSpec:
    """What a backbone wants to see: as timm says, then the file beside its weights, then the user.

    Args:
        backbone: A timm model.
        card: What stands beside the weights.
        wishes: ``mean``, ``std``, ``interpolation``, ``crop_pct``; those that are missing or ``None`` are not wished.
        in_chans: Input channels.
        size: Side in pixels; ``None`` for the backbone's own.
    """
    config = resolve_model_data_config(backbone)
    for source in (card, wishes):
        config.update({key: value for key, value in source.items() if value is not None})
    _, height, width = config["input_size"]
    return InputSpec(
        height=size or height,
        width=size or width,
        mean=_per_channel(config["mean"], in_chans),
        std=_per_channel(config["std"], in_chans),
        interpolation=config["interpolation"],
        crop_pct=config["crop_pct"],
    )


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Mean or std of RGB for another number of channels: grey takes the average, alpha too."""
    average = sum(values) / len(values)
    rgb = tuple(float(value) for value in values)
    return rgb if channels == len(rgb) else (*rgb, average) if channels > len(rgb) else (average,)
