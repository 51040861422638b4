"""Grad-CAM: which part of the image speaks for an output.

    image -> ... -> [last map of features] -> pooling -> head -> output        weight of a channel: mean of
                          ^---------------- gradient ------------'             the gradient over the map

Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2, by the package ``grad-cam``. The layer is
found by looking: the last module whose output is a map of features, or a row of tokens that is one, and whose every
place moves the output. A class token's last block moves nothing else, so that a ViT is looked at before its last
attention.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PACKAGE = "pytorch_grad_cam"
HOW_TO_INSTALL = "pip install -c constraints.txt -e '.[report]'"
# Share of the places of a map that have to have a gradient. ReLUs behind it may stop some.
MOVING = 0.5


@dataclass(frozen=True)
class Layer:
    """Where to look.

    Attributes:
        name: Of the module.
        module: Itself.
        as_map: Its output, or the gradient of it, as ``(B, C, h, w)``.
    """

    name: str
    module: nn.Module
    as_map: Callable[[Tensor], Tensor]


def is_installed() -> bool:
    """Whether the extra ``report`` is there."""
    return find_spec(PACKAGE) is not None


def find_layer(model: nn.Module, images: Tensor) -> Layer | None:
    """The last layer that can be looked at; ``None`` where there is none.

    Args:
        model: In eval mode; its parameters may be frozen.
        images: ``(B, C, H, W)``, normalised.
    """
    backbone: Any = getattr(model, "backbone", model)
    seen: list[tuple[str, nn.Module, Callable[[Tensor], Tensor], list[Tensor]]] = []

    def watch(name: str) -> Callable[..., None]:
        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            as_map = _map_of(output, images, backbone)
            if as_map is not None and output.requires_grad:
                gradients: list[Tensor] = []
                output.register_hook(lambda gradient: gradients.append(gradient.detach()))
                seen.append((name, module, as_map, gradients))

        return after

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.enable_grad():
            logits = model(images.detach().requires_grad_())
            logits.square().sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    for name, module, as_map, gradients in reversed(seen):
        # A module that is called several times (one activation for all) would give several maps.
        once = sum(other is module for _, other, _, _ in seen) == 1
        if once and gradients and float((as_map(gradients[0]) != 0).any(1).float().mean()) >= MOVING:
            return Layer(name, module, as_map)
    return None


def heat_maps(model: nn.Module, layer: Layer, images: Tensor, outputs: Sequence[int]) -> np.ndarray:
    """``(B, H, W)`` in ``[0, 1]``: what speaks for an output of each image.

    Args:
        model: In eval mode.
        layer: From ``find_layer``.
        images: ``(B, C, H, W)``, normalised.
        outputs: ``B`` positions among the logits.
    """
    from pytorch_grad_cam.grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets: list[Any] = [ClassifierOutputTarget(output) for output in outputs]
    # Not as a context manager: that one swallows every IndexError.
    cam = GradCAM(model, [layer.module], reshape_transform=layer.as_map)
    try:
        with torch.enable_grad():
            # Of frozen parameters there is no gradient; of what they make of these images there is.
            return cam(images.detach().requires_grad_(), targets)
    finally:
        cam.activations_and_grads.release()


def _map_of(output: Any, images: Tensor, backbone: Any) -> Callable[[Tensor], Tensor] | None:
    """How to read a module's output as a map of features; ``None`` if it is none."""
    if not isinstance(output, Tensor) or len(output) != len(images):
        return None
    ratio = images.shape[2] / images.shape[3]
    if output.ndim == 4:
        if hasattr(backbone, "num_prefix_tokens"):
            return None  # heads of an attention, which only look like a map
        last = getattr(backbone, "output_fmt", "NCHW") == "NHWC" and output.shape[3] == backbone.num_features
        height, width = output.shape[1:3] if last else output.shape[2:]
        if height * width < 2 or height > images.shape[2] or not _alike(height, width, ratio):
            return None
        return _channels_first if last else _unchanged
    if output.ndim != 3 or output.shape[2] != getattr(backbone, "num_features", None):
        return None
    prefix = int(getattr(backbone, "num_prefix_tokens", 0))
    places = output.shape[1] - prefix
    height = round(math.sqrt(max(places, 0) * ratio))
    if height < 2 or places % height or not _alike(height, places // height, ratio):
        return None

    def tokens_as_map(tokens: Tensor) -> Tensor:
        return tokens[:, prefix:].reshape(len(tokens), height, -1, tokens.shape[2]).permute(0, 3, 1, 2)

    return tokens_as_map


def _alike(height: int, width: int, ratio: float) -> bool:
    """Whether the map has the image's shape, but for the rounding of its sides."""
    return abs(height - width * ratio) <= max(1.0, ratio)


def _unchanged(values: Tensor) -> Tensor:
    return values


def _channels_first(values: Tensor) -> Tensor:
    return values.permute(0, 3, 1, 2)
