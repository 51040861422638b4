"""Gradient clipping: one bad batch cannot move the weights far.

    norm      g <- g * min(1, max / |g|)                 all gradients together
    value     g <- min(max(g, -max), max)                each number
    adaptive  G <- G * min(1, max * |W| / |G|)           each row of each matrix; never the head

Norm: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063. Adaptive (AGC): Brock et al. 2021,
https://arxiv.org/abs/2102.06171, equation 3. Turn on with ``plugins=[clip]``.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

from lightning.pytorch import Trainer
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn
from torch.optim import Optimizer

from ft import FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.errors import one_of, require
from ft.model.stages import HEAD

KEY = "plugins.clip"
Mode = Literal["norm", "value", "adaptive"]
MODES = get_args(Mode)


def clip(backbone: Sequence[nn.Parameter], head: Sequence[nn.Parameter], *, mode: str, max: float) -> Tensor:
    """Clips the gradients in place.

    Args:
        backbone: Those without a gradient are passed over.
        head: Likewise; ``adaptive`` leaves them alone, as the paper does.
        mode: ``norm``, ``value`` or ``adaptive``.
        max: The bound, above 0: of the norm, of each number, or of ``|G| / |W|``.

    Returns:
        The norm of all gradients before, a scalar.

    Source: torch and timm do the work; the papers are in the module's docstring.
    """
    everything = [*backbone, *head]
    if mode == "norm":
        return nn.utils.clip_grad_norm_(everything, max)
    norm = nn.utils.get_total_norm([parameter.grad for parameter in everything if parameter.grad is not None])
    if mode == "value":
        nn.utils.clip_grad_value_(everything, max)
    else:
        adaptive_clip_grad(backbone, clip_factor=max)
    return norm


class Clip(Plugin):
    """Clips before each optimizer step, and logs the mean norm there was.

    Args:
        mode: ``norm``, ``value`` or ``adaptive``.
        max: The bound, above 0; ``None`` clips nothing.

    Raises:
        UserError: A value is out of range, or the trainer clips too.
    """

    needs_whole_weights = True
    neutral: ClassVar = {"max": None}

    def __init__(self, *, mode: Mode, max: float | None) -> None:
        one_of(mode, MODES, f"{KEY}.mode")
        require(max is None or max > 0, f"{KEY}.max", "must be null or above 0", max)
        self.mode = mode
        self.max = max

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        if trainer.gradient_clip_val is not None:
            raise UserError(
                f"plugins=[clip] and trainer.gradient_clip_val={trainer.gradient_clip_val} would both clip: "
                "set trainer.gradient_clip_val=null."
            )
        if module.optimizer_options.full_batch:
            raise UserError(
                f"plugins=[clip] changes the gradient, which optimizer={module.optimizer_options.name} searches along: "
                "leave clip out, or set optimizer=adamw."
            )

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        if self.max is None:
            return
        backbone, head = (
            [
                each
                for group in optimizer.param_groups
                if (group["stage"] == HEAD) == is_head
                for each in group["params"]
            ]
            for is_head in (False, True)
        )
        norm = clip(backbone, head, mode=self.mode, max=self.max)
        if not pl_module.repeating:
            pl_module.log(f"plugins/{self.name}/norm", norm.detach(), on_step=False, on_epoch=True, batch_size=1)
