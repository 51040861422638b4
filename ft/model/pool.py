"""Pooling other than the backbone's own.

timm pools by itself where it can. Its ViT and ConvNeXt heads refuse ``catavgmax``, because the pooled width doubles
before their own norm; here both pools go through that norm and stand side by side.
"""

from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from ft.errors import UserError, one_of

POOLS = ("own", "avg", "max", "avgmax", "catavgmax")


class CatAvgMax(nn.Module):
    """Pooled features ``(B, 2F)`` of a backbone whose head keeps the width: average first, then maximum.

    Args:
        backbone: A timm model without classifier; not registered as a child, its parameters have their place already.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self._backbone = [backbone]
        self.avg = SelectAdaptivePool2d(pool_type="avg")
        self.max = SelectAdaptivePool2d(pool_type="max")

    def forward(self, features: Tensor) -> Tensor:
        """Pools ``forward_features``' output: ``(B, F, H, W)`` or ``(B, tokens, F)``."""
        backbone = self._backbone[0]
        if hasattr(backbone, "pool"):
            return torch.cat([backbone.fc_norm(backbone.pool(features, pool_type=kind)) for kind in ("avg", "max")], 1)
        head = backbone.head
        return torch.cat([head.pre_logits(head.flatten(head.norm(pool(features)))) for pool in (self.avg, self.max)], 1)


def set_pool(backbone: Any, pool: str) -> CatAvgMax | None:
    """Changes how a timm backbone without classifier pools.

    Args:
        backbone: Changed in place, weights untouched.
        pool: One of ``POOLS``; ``own`` leaves it as it was pretrained.

    Returns:
        A module for what timm cannot do by itself, or ``None``.

    Raises:
        UserError: The backbone has no way to pool so.
    """
    one_of(pool, POOLS, "model.head.pool")
    if pool == "own":
        return None
    try:
        backbone.reset_classifier(0, pool)
    # timm asserts, or raises what the layer that cannot do it raises.
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        if pool == "catavgmax" and _pools_to_width(backbone):
            return CatAvgMax(backbone)
        raise UserError(
            f"model.head.pool={pool} does not work with this backbone ({error}). Set model.head.pool=own."
        ) from error
    return None


def _pools_to_width(backbone: Any) -> bool:
    head = getattr(backbone, "head", None)
    tokens = hasattr(backbone, "pool") and hasattr(backbone, "fc_norm")
    return tokens or all(hasattr(head, part) for part in ("norm", "flatten", "pre_logits"))
