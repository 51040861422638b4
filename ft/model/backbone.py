"""A timm model as a backbone: what timm knows of its name, and how it is created with weights found here."""

from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from ft.errors import UserError, did_you_mean
from ft.model.weight_files import every_key_used, read_weights
from ft.model.weights import Weights

# Arguments of timm.create_model that load files, past every check of ours.
NOT_KWARGS = frozenset({"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"})
OWN_KEYS = ("in_chans", "img_size", "drop_path_rate", "act_layer")


def pretrained_cfg(name: str) -> Any:
    """What timm says of a model and of the weights that its name asks for.

    Raises:
        UserError: timm knows no such model, or no such weights of it.
    """
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        known = timm.list_models()
        hint = did_you_mean(architecture, known) or f" timm {timm.__version__} knows {len(known)}."
        raise UserError(f"model.name={name} is not a timm model.{hint}")
    try:
        return get_pretrained_cfg(name)
    except RuntimeError:
        tags = timm.list_pretrained(f"{architecture}.*")
        raise UserError(
            f"model.name={name}: timm has no such weights.{did_you_mean(name, tags) or f' It has {tags}.'}"
        ) from None


def create_backbone(name: str, weights: Weights, arguments: dict[str, Any]) -> nn.Module:
    """A timm model without classifier, with its weights loaded.

    Args:
        name: As ``pretrained_cfg`` knows it.
        weights: Where they are; of kind ``random`` none are loaded.
        arguments: Of ``timm.create_model``.

    Raises:
        UserError: The model does not take an argument, or the weights do not fit.
    """
    try:
        if weights.kind == "random":
            return timm.create_model(name, num_classes=0, **arguments)
        with torch.device("meta"):
            names = timm.create_model(name)
        overlay = {"state_dict": read_weights(weights, names), "custom_load": False}
        with every_key_used(weights):
            backbone: Any = timm.create_model(
                name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **arguments
            )
    except UserError:
        raise
    except TypeError as error:
        given = next((key for key in arguments if f"'{key}'" in str(error)), "")
        key = f"model.kwargs.{given}".rstrip(".") if given not in OWN_KEYS else f"model.{given}"
        raise UserError(f"{key}: model.name={name} does not take it ({error}).") from error
    # timm's activation, pooling and patch embedding each refuse in their own way.
    except (AssertionError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"model.name={name} cannot be built with {arguments}: {error}") from error
    # timm keeps the overlay; a second copy of all weights is not wanted.
    backbone.pretrained_cfg = {**dict(backbone.pretrained_cfg), "state_dict": None}
    return backbone
