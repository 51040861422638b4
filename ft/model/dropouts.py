"""Where a model has dropout rates: every number that a plugin would have to set.

head         nn.Dropout modules of the head
drop_path    timm's DropPath (stochastic depth, https://arxiv.org/abs/1603.09382), which it builds at a rate above 0
backbone     every other nn.Dropout, and timm's attribute ``drop_rate`` where the code drops without a module
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from timm.layers import DropPath
from torch import nn

from ft.model.stages import HEAD, Stage

DROP_PATH, BACKBONE = "drop_path", "backbone"


@dataclass(frozen=True)
class DropoutSite:
    """One number in the model that is a dropout rate.

    Attributes:
        place: ``head``, ``drop_path`` or ``backbone``.
        module: Name of the module that has it.
        attribute: Its name there.
        share: What it is, relative to the curve.
    """

    place: str
    module: str
    attribute: str
    share: float


def find_dropouts(model: nn.Module, stages: Sequence[Stage], factors: Mapping[str, float]) -> list[DropoutSite]:
    """Every dropout rate of a model.

    Drop paths keep their share of the largest that was built: timm's linear growth with depth stays what it is.

    Args:
        model: Any.
        stages: Its stages.
        factors: Of the rates of some stages, by name.
    """
    stage_of = {name: stage.name for stage in stages for name in stage.modules}
    largest = max((part.drop_prob or 0.0 for part in model.modules() if isinstance(part, DropPath)), default=0.0)
    sites = []
    for name, part in model.named_modules():
        # A container of several stages drops what comes out of the last of them.
        stage = stage_of.get(name, stages[-2].name if len(stages) > 1 else HEAD)
        factor = factors.get(stage, 1.0)
        if isinstance(part, DropPath) and largest:
            sites.append(DropoutSite(DROP_PATH, name, "drop_prob", factor * (part.drop_prob or 0.0) / largest))
        elif isinstance(part, nn.modules.dropout._DropoutNd):
            sites.append(DropoutSite(HEAD if stage == HEAD else BACKBONE, name, "p", factor))
        # Where a pool of ours takes the backbone's feature maps, timm's own head is not run.
        elif drops_by_itself(part) and not (name == "backbone" and getattr(model, "pool", None) is not None):
            sites.append(DropoutSite(BACKBONE, name, "drop_rate", factor))
    return sites


def drops_by_itself(module: nn.Module) -> bool:
    """Whether it hands timm's attribute ``drop_rate`` to ``F.dropout``; most that have the attribute never read it."""
    if not isinstance(getattr(module, "drop_rate", None), int | float):
        return False
    codes = [getattr(getattr(type(module), name, None), "__code__", None) for name in ("forward", "forward_head")]
    return any({"drop_rate", "dropout"} <= set(code.co_names) for code in codes if code is not None)
