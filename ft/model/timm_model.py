"""A timm backbone with a new head: the model's protocol (``forward``, ``stages``, ``split``, ``input_spec``)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ft.errors import UserError, require
from ft.input_spec import MODES, InputSpec
from ft.model.backbone import NOT_KWARGS, create_backbone, pretrained_cfg
from ft.model.head import make_head
from ft.model.native_input import native_input, side_for
from ft.model.pool import set_pool
from ft.model.segment import segment
from ft.model.split import split
from ft.model.stages import HEAD, Stage, backbone_stages, head_stage
from ft.model.weights import Weights, find_weights


class TimmModel(nn.Module):
    """Images to logits.

    Args:
        backbone: A timm model without classifier.
        pool: Pools its feature maps where timm cannot; ``None`` where it can.
        head: Features ``(B, F)`` to logits ``(B, K)``.
        input_spec: What the backbone was trained with.
        weights: Where its weights came from.
    """

    def __init__(
        self, backbone: nn.Module, pool: nn.Module | None, head: nn.Module, input_spec: InputSpec, weights: Weights
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.head = head
        self.input_spec = input_spec
        self.weights = weights

    def features(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` normalised images to pooled features ``(B, F)``."""
        return pooled(self.backbone, self.pool, images)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` normalised images to logits ``(B, K)``."""
        return self.head(self.features(images))

    def stages(self) -> list[Stage]:
        """From the stem to the head; every parameter and buffer is in exactly one.

        Looked up anew: a plugin may have changed the network.
        """
        return [*backbone_stages(self.backbone, "backbone."), head_stage(self.head, "head.")]

    def split(self, boundary: str) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]] | None:
        """``(prefix, suffix)`` with shared weights and ``suffix(prefix(x)) == forward(x)``, bit for bit.

        The prefix computes as in eval mode; the suffix in the modes that the model's modules are in.

        Args:
            boundary: Name of the first stage of the suffix.

        Returns:
            ``None`` where there is no cut: before the first stage, and where tracing the model fails.
        """
        if boundary == HEAD:
            return self.features, self.head
        stages = self.stages()
        if boundary == stages[0].name:
            return None
        return split(self, stages, boundary, self._probe())

    def between(self, start: str | None, stops: Sequence[str]) -> Callable[[Any], dict[str, Any]] | None:
        """What crosses each of several boundaries, in one pass as in eval mode; the model has to be in it.

        Args:
            start: The boundary whose activations are given; ``None`` for normalised images ``(B, C, H, W)``.
            stops: Boundaries after it, each of which ``split`` can cut.

        Returns:
            ``None`` where there is no such part.
        """
        if start is None and list(stops) == [HEAD]:
            return lambda images: {HEAD: self.features(images)}
        return segment(self, self.stages(), start, stops, self._probe())

    def _probe(self) -> Tensor:
        spec, weight = self.input_spec, next(self.parameters())
        probe = torch.randn(2, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(0))
        return probe.to(weight)


def pooled(backbone: Any, pool: nn.Module | None, images: Tensor) -> Tensor:
    """``(B, C, H, W)`` normalised images to ``(B, F)``."""
    return backbone(images) if pool is None else pool(backbone.forward_features(images))


def timm_model(
    *,
    num_outputs: int,
    name: str,
    weights: str,
    weights_dir: str | None,
    in_chans: int,
    img_size: int | None,
    drop_path_rate: float | None,
    act_layer: str | None,
    kwargs: dict[str, Any],
    input: dict[str, Any],
    head: dict[str, Any],
    suggested: dict[str, Any],
) -> TimmModel:
    """Builds the model and loads its weights.

    Args:
        num_outputs: ``K``.
        name: Any timm name.
        weights: ``auto``, ``required``, ``none``, or a file.
        weights_dir: A folder of ``<timm name>.safetensors``.
        in_chans: Input channels: 1, 3 or 4; pretrained weights are adapted as timm does.
        img_size: Side in pixels; ``None`` takes what the data suggests, else what the weights were trained with.
        drop_path_rate: In ``[0, 1)``; ``None`` leaves timm's default.
        act_layer: Name of a timm activation; ``None`` leaves the model's own.
        kwargs: Further arguments of ``timm.create_model``.
        input: ``mean``, ``std``, ``interpolation``, ``crop_pct``; ``None`` for what the weights were trained with.
        head: ``pool``, ``hidden``, ``activation``, ``drop_rate``, ``norm``.
        suggested: ``img_size`` and ``crop_pct`` that suit the data.

    Raises:
        UserError: The name is unknown, an argument is out of range or not taken by this model, weights do not fit.
    """
    require(in_chans in MODES, "model.in_chans", f"must be one of {sorted(MODES)}", in_chans)
    require(img_size is None or img_size >= 1, "model.img_size", "must be at least 1", img_size)
    crop_pct = input.get("crop_pct")
    require(crop_pct is None or 0 < crop_pct <= 1, "model.input.crop_pct", "must be in (0, 1]", crop_pct)
    require(
        drop_path_rate is None or 0 <= drop_path_rate < 1, "model.drop_path_rate", "must be in [0, 1)", drop_path_rate
    )
    known = pretrained_cfg(name)
    if elsewhere := sorted(NOT_KWARGS & kwargs.keys()):
        raise UserError(f"model.kwargs.{elsewhere[0]}: where weights come from is said with model.weights=FILE alone.")
    source = find_weights(name, weights=weights, weights_dir=weights_dir, hub_id=known.hf_hub_id)
    size = side_for(img_size, suggested.get("img_size"), name, known.fixed_input_size)
    said = source.card.get("model_kwargs", {})
    if not isinstance(said, dict) or NOT_KWARGS & said.keys():
        raise UserError(f"the file beside the weights ({source}) has model_kwargs that are no arguments of a model.")
    arguments: dict[str, Any] = {"in_chans": in_chans, **said, **kwargs}
    if size and known.fixed_input_size:
        arguments["img_size"] = size
    if drop_path_rate is not None:
        arguments["drop_path_rate"] = drop_path_rate
    if act_layer is not None:
        arguments["act_layer"] = act_layer
    backbone = create_backbone(name, source, arguments)
    # The data's suggestion comes before what the weights say, and behind what the user says.
    wishes = {
        "crop_pct": suggested.get("crop_pct"),
        **{key: value for key, value in input.items() if value is not None},
    }
    spec = native_input(backbone, source.card, wishes, in_chans, size)

    pool = set_pool(backbone, head["pool"])
    with torch.no_grad():
        was_training = backbone.training
        probe = pooled(backbone.eval(), pool, torch.zeros(1, in_chans, spec.height, spec.width))
        backbone.train(was_training)
    if probe.ndim != 2:
        raise UserError(f"model.name={name} does not pool its features by itself; set model.head.pool=avg.")
    shape = {key: value for key, value in head.items() if key != "pool"}
    return TimmModel(backbone, pool, make_head(probe.shape[1], num_outputs, **shape), spec, source)
