"""Which images a backbone is scored on, at what size, and in what precision."""

from dataclasses import replace
from typing import Any

import torch

from ft.data.module import EncodedSplit
from ft.data.source import Split
from ft.data.splits import limit
from ft.errors import require
from ft.input_spec import InputSpec
from ft.machine.tune import autocast_of

# Sides of images are multiples of it at low resolution: strides divide it.
WHOLE = 16


def some_of(split: EncodedSplit, count: int | None, *, seed: int) -> EncodedSplit:
    """A stratified sample; the whole split where it has no more images, and for ``None``."""
    if count is None:
        return split
    require(count >= 2, "sweep.images", "must be at least 2", count)
    some = limit(Split(split.images, split.targets.numpy(), split.names), count, seed)
    return EncodedSplit(some.images, torch.from_numpy(some.labels), some.names)


def lower(spec: InputSpec, share: float | None, *, fixed: bool) -> InputSpec:
    """The same preprocessing at a share of its resolution, in whole strides; as it is where the size is fixed.

    Raises:
        UserError: The share is not in ``(0, 1]``.
    """
    if share is None:
        return spec
    require(0 < share <= 1, "sweep.resolution", "must be in (0, 1]", share)
    if fixed:
        return spec
    height, width = (
        min(side, max(2 * WHOLE, round(side * share / WHOLE) * WHOLE)) for side in (spec.height, spec.width)
    )
    return replace(spec, height=height, width=width)


def has_fixed_size(model: Any) -> bool:
    """Whether a backbone takes images of one size alone, as timm says; unknown ones are taken to."""
    config = getattr(getattr(model, "backbone", None), "pretrained_cfg", None)
    return True if config is None else bool(dict(config).get("fixed_input_size", False))


def fast_precision(wanted: str, device: torch.device) -> str:
    """What features are computed in: as ``trainer.precision`` says, else ``bf16`` where the hardware has it.

    By a rule, not by a race: the same machine gives the same features again.
    """
    said = None if wanted == "auto" else autocast_of(str(wanted))
    if said is not None:
        return said
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
