"""Whether numbers are finite, asked so that a GPU need not be waited for."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ft.errors import NotFinite

# Of a model's buffers those that training changes; others may hold infinity on purpose, as masks do.
STATISTICS = ("running_mean", "running_var")
# In a message; more would not be read.
NAMES_SHOWN = 3


def are_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Scalar ``bool`` on the tensors' device; true of none. Of a tensor in parts this process looks at its own."""
    parts = [each.to_local() if isinstance(each, DTensor) else each.detach() for each in tensors]
    filled = [each for each in parts if each.numel() and (each.is_floating_point() or each.is_complex())]
    if not filled:
        return torch.tensor(True)
    # The largest magnitude, which cannot overflow as a sum of squares can, and is no number where any is none.
    return torch.isfinite(torch.stack([norm.float() for norm in torch._foreach_norm(filled, float("inf"))])).all()


def unfinite_weights(state: Mapping[str, Tensor], model: nn.Module, prefix: str = "model.") -> str | None:
    """The name of the first parameter or running statistic that is not finite; ``None`` where all are.

    Args:
        state: By name, as checkpoints hold them.
        model: Knows which of them are parameters.
        prefix: Of the model's names in ``state``.
    """
    others = {prefix + name for name, _ in model.named_buffers() if not name.endswith(STATISTICS)}
    looked = {name: value for name, value in state.items() if name not in others and isinstance(value, Tensor)}
    if bool(are_finite(looked.values())):
        return None
    return next(name for name, value in looked.items() if not bool(are_finite([value])))


def refuse_unfinite(checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    """The last look before weights are written, whoever has computed them.

    Args:
        checkpoint: As Lightning and all plugins have filled it; every mapping of names to tensors in it that holds the
            model's is looked at, averages too.
        model: Whose weights they are.

    Raises:
        NotFinite: A weight is not.
    """
    found = unfinite_weights(checkpoint["state_dict"], model)
    names = {name for name, _ in model.named_parameters()}
    for kept in checkpoint.values():
        if found is None and isinstance(kept, Mapping) and names <= kept.keys():
            found = unfinite_weights(kept, model, prefix="")
    if found is not None:
        raise NotFinite(
            f"the weight {found} is not finite in epoch {checkpoint['epoch'] + 1}, step {checkpoint['global_step']}: "
            "the checkpoint is not written, the one before is kept.\n" + ADVICE
        )


ADVICE = (
    "Lower optimizer.lr, set trainer.gradient_clip_val=1 or plugins=[clip], or trainer.precision=32-true; "
    "on_nan=skip leaves such steps out, on_nan=rollback goes back to the last checkpoint with a lower rate."
)


def some_names(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
