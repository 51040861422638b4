"""Running statistics as they were before a step, for a step that is repeated or left out.

A forward pass changes them before anybody knows what becomes of it.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class Statistics:
    """A copy of what the open normalisation layers of a model count."""

    def __init__(self) -> None:
        self._live: list[Tensor] = []
        self._kept: list[Tensor] = []

    @property
    def are_open(self) -> bool:
        """Whether a step changes any."""
        return bool(self._live)

    @torch.no_grad()
    def keep(self, model: nn.Module) -> None:
        """Copies them; a model whose statistics are frozen costs a walk over its modules."""
        live = [
            buffer
            for module in model.modules()
            if module.training and isinstance(module, _NormBase)
            for buffer in module.buffers(recurse=False)
        ]
        if len(live) != len(self._live) or any(one is not other for one, other in zip(live, self._live, strict=True)):
            self._live, self._kept = live, [torch.empty_like(each) for each in live]
        if live:
            torch._foreach_copy_(self._kept, self._live)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the copy back."""
        if self._live:
            torch._foreach_copy_(self._live, self._kept)
