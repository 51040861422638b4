"""SAM: the gradient is taken where, close by, the loss is highest, so that training ends in flat minima.

    w  --  up along the gradient, by rho  -->  w'        the gradient at w' moves w
    |w' - w| = rho for SAM; for ASAM, in units of each weight's own size

Every step costs two. From Foret et al. 2021, https://arxiv.org/abs/2010.01412, equations 2 and 3; adaptive: Kwon et al.
2021, https://arxiv.org/abs/2102.11600, section 4. Turn on with ``plugins=[sam]``.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ft import FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.errors import require

KEY = "plugins.sam"


def ascent(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], *, rho: float, adaptive: bool, eta: float
) -> list[Tensor]:
    """How far each weight goes up.

    Args:
        weights: Of any shapes.
        gradients: Of the same shapes.
        rho: Length of the whole step, at least 0.
        adaptive: Measures it in units of ``|w| + eta``.
        eta: At least 0: lets a weight of 0 move; of no meaning unless ``adaptive``.

    Source: https://arxiv.org/abs/2010.01412, equation 2; https://arxiv.org/abs/2102.11600, section 4.
    """

    def in_units(values: Sequence[Tensor]) -> list[Tensor]:
        if not adaptive:
            return list(values)
        return [(weight.abs() + eta) * value for weight, value in zip(weights, values, strict=True)]

    scaled = in_units(gradients)
    norm = torch.stack([each.float().norm() for each in scaled]).norm()
    return [(rho / (norm + 1e-12)).to(each.dtype) * each for each in in_units(scaled)]


class Sam(Plugin):
    """Computes each batch twice.

    Args:
        rho: How far up to look, at least 0; 0 is plain training at its usual cost.
        adaptive: Whether the distance is in units of each weight's size (ASAM; ``rho`` is then larger, 0.5 to 2).
        eta: At least 0: added to a weight's size, so that a weight of 0 can move.

    Raises:
        UserError: A value is out of range, or the optimizer or trainer does not take a step from one closure.
    """

    needs_whole_weights = True
    neutral: ClassVar = {"rho": 0.0}

    def __init__(self, *, rho: float, adaptive: bool, eta: float) -> None:
        require(rho >= 0, f"{KEY}.rho", "must be at least 0", rho)
        require(eta >= 0, f"{KEY}.eta", "must be at least 0", eta)
        self.rho = rho
        self.adaptive = adaptive
        self.eta = eta
        self.handles: list[RemovableHandle] = []

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        options = module.optimizer_options
        if options.full_batch:
            raise UserError(
                f"plugins=[sam] needs a mini-batch optimizer, and optimizer={options.name} takes the whole training "
                "set at once: set optimizer=adamw or sgd."
            )
        if trainer.accumulate_grad_batches > 1:
            raise UserError(
                "plugins=[sam] computes each batch twice within one step, so gradients cannot be accumulated over "
                f"several: set trainer.accumulate_grad_batches=1, got {trainer.accumulate_grad_batches}."
            )
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise UserError(
                f"plugins=[sam] does not go with trainer.precision={trainer.precision}, whose gradient scaler steps "
                "once a batch: set trainer.precision=bf16-mixed or 32-true."
            )

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._release()
        if self.rho == 0:
            return

        def twice(optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any]:
            # torch hands the optimizer itself over as the first positional argument.
            this, *positional = args
            closure = kwargs["closure"] if "closure" in kwargs else positional[0]
            return (this,), {"closure": lambda: self._climb(optimizer, closure, pl_module)}

        for optimizer in trainer.optimizers:
            # timm's Lookahead calls no hooks of its own.
            inner: Any = getattr(optimizer, "_base_optimizer", optimizer)
            self.handles.append(inner.register_step_pre_hook(twice))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._release()

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self._release()

    def _release(self) -> None:
        while self.handles:
            self.handles.pop().remove()

    def _climb(self, optimizer: Optimizer, closure: Callable[[], Any], module: FineTuner) -> Any:
        """The loss at the weights; the gradients at the top of the climb."""
        again = rewind(module.device)
        loss = closure()
        weights = [each for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        if loss is None or not weights:
            return loss
        # Batch statistics are those of the weights, not of the place that is only looked at.
        kept = [(each, each.detach().clone()) for each in (*weights, *module.model.buffers())]
        gradients = [weight.grad for weight in weights]
        with torch.no_grad():
            steps = ascent(weights, gradients, rho=self.rho, adaptive=self.adaptive, eta=self.eta)
            for weight, step in zip(weights, steps, strict=True):
                weight.add_(step)
        again()
        module.repeating = True
        try:
            closure()
        finally:
            module.repeating = False
            with torch.no_grad():
                for tensor, value in kept:
                    tensor.copy_(value)
        return loss


def rewind(device: torch.device) -> Callable[[], None]:
    """A function that sets torch's generators back to what they are now: dropout then drops the same once more."""
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def again() -> None:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)

    return again
