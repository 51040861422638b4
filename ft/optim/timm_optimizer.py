"""Any optimizer of timm's, by name."""

from typing import Any

from timm.optim import create_optimizer_v2, list_optimizers
from torch.optim import Optimizer

from ft.errors import one_of
from ft.optim.groups import ParamGroup


def timm_optimizer(params: list[ParamGroup], *, name: str, lr: float, **kwargs: Any) -> Optimizer:
    """``timm.optim.create_optimizer_v2`` on groups of our own.

    Args:
        params: Groups with their own ``lr`` and ``weight_decay``.
        name: One of ``timm.optim.list_optimizers()``, perhaps with the prefix ``lookahead_``.
        lr: Default for groups without their own.
        kwargs: The optimizer's own arguments.

    Raises:
        UserError: timm has no such optimizer.
    """
    one_of(name.removeprefix("lookahead_"), map(str, list_optimizers()), "optimizer.name")
    return create_optimizer_v2(params, opt=name, lr=lr, **kwargs)
