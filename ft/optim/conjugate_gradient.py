"""Nonlinear conjugate gradient for the whole training set at once.

    d_0 = -g_0                                   steepest descent first
    x_{k+1} = x_k + a_k d_k                      a_k from a strong-Wolfe line search
    b_k = max(0, g_{k+1}.(g_{k+1} - g_k) / g_k.g_k)      Polak-Ribiere+
    d_{k+1} = -g_{k+1} + b_k d_k                 restarted when it is no descent, or after n steps

Source: Nocedal & Wright 2006, Numerical Optimization, algorithm 5.4 with equation 5.45 (restarts: 5.52).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# torch's own strong-Wolfe search, written for its L-BFGS and tested with it; it has no public name.
from torch.optim.lbfgs import _strong_wolfe

from ft.errors import require
from ft.optim.flat import add_flat, flat_gradient, open_parameters

Closure = Callable[[], Tensor | float]


class ConjugateGradient(Optimizer):
    """Polak-Ribiere+ conjugate gradient with restarts.

    ``step`` needs a closure that computes loss and gradients of the whole objective, always the same one. History is
    dropped when the set of parameters that have gradients changes.

    Args:
        params: One parameter group.
        lr: First step length of all that is tried, relative to the gradient's size; above 0.
        max_iter: Iterations a step, at least 1.
        restart: Steepest descent is taken again after this many iterations, at least 1.
        tolerance: Stops when the largest gradient entry is below.
        max_evaluations: Closure calls that one line search may take, at least 1.

    Raises:
        UserError: A value is out of range.
    """

    def __init__(
        self, params: Any, *, lr: float, max_iter: int, restart: int, tolerance: float, max_evaluations: int
    ) -> None:
        require(max_iter >= 1, "optimizer.max_iter", "must be at least 1", max_iter)
        require(restart >= 1, "optimizer.restart", "must be at least 1", restart)
        require(tolerance >= 0, "optimizer.tolerance", "must be at least 0", tolerance)
        require(max_evaluations >= 1, "optimizer.max_evaluations", "must be at least 1", max_evaluations)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "restart": restart,
            "tolerance": tolerance,
            "max_evaluations": max_evaluations,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Runs up to ``max_iter`` iterations; returns the loss before the first."""
        assert closure is not None, "conjugate gradient evaluates the loss itself"
        group = self.param_groups[0]
        evaluate = torch.enable_grad()(closure)
        first_loss = loss = float(evaluate())
        open_now = open_parameters(group["params"])
        if not open_now:
            return first_loss
        state = self.state[group["params"][0]]
        sizes = [parameter.numel() for parameter in open_now]
        if state.get("sizes") != sizes:
            state.clear()
            state.update(sizes=sizes, since_restart=0)
        gradient = flat_gradient(open_now)

        for _ in range(group["max_iter"]):
            if gradient.abs().max() <= group["tolerance"]:
                break
            direction = self._direction(gradient, state, group["restart"])
            slope = gradient.dot(direction)
            # Nocedal & Wright, equation 3.60: the step that would bring the same first-order change as the last one.
            guess = (
                state["last_change"] / float(slope)
                if "last_change" in state
                else min(1.0, 1.0 / float(gradient.abs().sum())) * group["lr"]
            )
            origin = [parameter.clone() for parameter in open_now]

            def at(_origin: list[Tensor], length: float, along: Tensor, start: list[Tensor] = origin) -> Any:
                for parameter, value in zip(open_now, start, strict=True):
                    parameter.copy_(value)
                add_flat(open_now, along, length)
                return float(evaluate()), flat_gradient(open_now)

            new_loss, new_gradient, length, _ = _strong_wolfe(
                at, origin, guess, direction, loss, gradient, slope, c2=0.1, max_ls=group["max_evaluations"]
            )
            for parameter, value in zip(open_now, origin, strict=True):
                parameter.copy_(value)
            if not new_loss < loss:
                # No progress along a conjugate direction: steepest descent next; none along that either: done.
                if state["since_restart"] == 1:
                    break
                state["since_restart"] = 0
                continue
            add_flat(open_now, direction, length)
            state["last_change"] = float(length * slope)
            state["gradient"], state["direction"] = gradient, direction
            loss, gradient = new_loss, new_gradient
        return first_loss

    @staticmethod
    def _direction(gradient: Tensor, state: dict[str, Any], restart: int) -> Tensor:
        """Steepest descent first, after ``restart`` iterations, or where it would not descend."""
        if 0 < state["since_restart"] < restart and "direction" in state:
            last = state["gradient"]
            beta = (gradient.dot(gradient - last) / last.dot(last)).clamp(min=0)
            direction = beta * state["direction"] - gradient
            if direction.dot(gradient) < 0:
                state["since_restart"] += 1
                return direction
        state["since_restart"] = 1
        return -gradient
