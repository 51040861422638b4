"""torch's L-BFGS, on the open parameters only."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ft.errors import require


class LBFGS(torch.optim.LBFGS):
    """L-BFGS whose vectors hold what is open now, and whose history is dropped when that changes.

    torch's own takes all parameters at all times: with a frozen backbone its history would be a hundred times as
    large as needed, and wrong after unfreezing.

    Args:
        params: One parameter group.
        lr: First step length that a line search tries, above 0.
        max_iter: Iterations a step, at least 1.
        history_size: Pairs of steps and gradient changes that are kept, at least 1.
        tolerance: Stops when the largest gradient entry is below.

    Raises:
        UserError: A value is out of range.
    """

    def __init__(self, params: Any, *, lr: float, max_iter: int, history_size: int, tolerance: float) -> None:
        require(max_iter >= 1, "optimizer.max_iter", "must be at least 1", max_iter)
        require(history_size >= 1, "optimizer.history_size", "must be at least 1", history_size)
        require(tolerance >= 0, "optimizer.tolerance", "must be at least 0", tolerance)
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            history_size=history_size,
            tolerance_grad=tolerance,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        self._all = list(self._params)

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        opened = [at for at, parameter in enumerate(self._all) if parameter.requires_grad]
        # torch keeps its state under the first of its parameters. Ours has its place under the first of all, where
        # ``state_dict`` finds it again whichever are open.
        home = self.state[self._all[0]]
        if home.get("open") != opened:
            home.clear()
            home["open"] = opened
        self._params = [self._all[at] for at in opened]
        self._numel_cache = None
        self.state[self._params[0]] = home
        loss = super().step(closure)
        if self._params[0] is not self._all[0]:
            del self.state[self._params[0]]
        return loss
