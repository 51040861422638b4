"""``on_nan``: a loss or a gradient that is not finite never reaches a checkpoint.

    loss, gradients --> finite?  yes: the optimizer steps
                                 no:  stop      the run ends; the last checkpoint is kept
                                      skip      the optimizer, averages and running statistics see nothing of it
                                      rollback  back to the last checkpoint, at a lower rate

On a CPU every step is looked at before the weights move. On a GPU that would make the processor wait for each step:
flags stay on the device, and are looked at every ``LOOK_EVERY`` steps, before validation and before every save.
``skip`` needs the answer before the weights move, and waits for it in every step.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from ft.errors import NotFinite, one_of, require
from ft.faults.finite import ADVICE, are_finite, some_names, unfinite_weights

# Steps between two looks at a GPU's flags.
LOOK_EVERY = 16
ANSWERS = ("stop", "skip", "rollback")


@dataclass(frozen=True)
class OnNan:
    """What is done about numbers that are not finite.

    Attributes:
        answer: ``stop``, ``skip`` or ``rollback``.
        skips: That many steps in a row may be left out.
        rollbacks: So often in a run.
        lr_factor: Of the rate, at each rollback.

    Raises:
        UserError: A value is out of its range.
    """

    answer: str
    skips: int
    rollbacks: int
    lr_factor: float

    def __post_init__(self) -> None:
        one_of(self.answer, ANSWERS, "on_nan")
        require(self.skips >= 1, "on_nan_limits.skips", "must be at least 1", self.skips)
        require(self.rollbacks >= 1, "on_nan_limits.rollbacks", "must be at least 1", self.rollbacks)
        require(0 < self.lr_factor < 1, "on_nan_limits.lr_factor", "must be in (0, 1)", self.lr_factor)


class Step(NamedTuple):
    """What is known of an optimizer step.

    Attributes:
        epoch: From 0.
        number: Of the optimizer, from 0.
        images: Positions of the images of its batches.
        loss: Scalar ``bool``: all its losses were finite.
        gradient: Likewise.
    """

    epoch: int
    number: int
    images: list[Tensor]
    loss: Tensor
    gradient: Tensor


class Guard(Callback):
    """Watches losses and gradients; the first of all callbacks, so that the others see what is left.

    Args:
        rules: What is done.

    Attributes:
        skipped: Steps that were left out.
        in_a_row: Those since the last good one.
        rollbacks: So far.
    """

    def __init__(self, rules: OnNan) -> None:
        self.rules = rules
        self.skipped = 0
        self.in_a_row = 0
        self.rollbacks = 0
        self._images: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._unseen: list[Step] = []
        self._begins = True

    @staticmethod
    def of(trainer: Trainer) -> "Guard":
        """The one of a trainer."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, Guard))  # pyright: ignore

    @property
    def rate(self) -> float:
        """What every learning rate is multiplied with."""
        return self.rules.lr_factor**self.rollbacks

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        # What was restored is known by now, and no rate has been computed from it yet.
        pl_module.rate_scale = self.rate
        pl_module.leaves_out = self.rules.answer == "skip"
        self._unseen.clear()
        self._begins = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._begins:
            self._images, self._losses, self._begins = [], [], False
            pl_module.step_left_out = False
        if hasattr(batch, "index") and isinstance(batch.index, Tensor):
            self._images.append(batch.index)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        if not pl_module.automatic_optimization:
            return  # a search along a line may look at places where the loss is infinite
        self._begins = True
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        gradient = are_finite(gradients)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and scaler.get_scale() >= 1:
            # Its own business: it leaves the step out and takes a smaller scale, until there is none left to take.
            gradient = torch.tensor(True)
        step = Step(trainer.current_epoch, trainer.global_step, self._images, are_finite(self._losses), gradient)
        self._unseen.append(step)
        waits = self.rules.answer == "skip" or pl_module.device.type == "cpu" or len(self._unseen) >= LOOK_EVERY
        if waits and (found := self._look(trainer)):
            self._answer(found, trainer, pl_module, optimizer)
        elif waits and not pl_module.repeating:
            self.in_a_row = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.automatic_optimization:
            loss = are_finite([torch.as_tensor(outputs["loss"])] if outputs else [])
            self._unseen.append(Step(trainer.current_epoch, trainer.global_step - 1, [], loss, torch.tensor(True)))
            self._refuse_unseen(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        # Plugins keep weights of their own from here on.
        self._refuse_unseen(trainer, pl_module)
        if not trainer.sanity_checking and self._agreed(trainer, self._unfinite(pl_module) is not None):
            raise NotFinite(
                f"the weights are not finite after epoch {trainer.current_epoch + 1}, step {trainer.global_step}; "
                f"none such are kept.\n{ADVICE}"
            )

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        value = trainer.callback_metrics.get("val/loss")
        if trainer.sanity_checking or value is None or bool(torch.isfinite(value)):
            return
        said = f"val/loss is not a finite number in epoch {trainer.current_epoch + 1}, although the weights are finite"
        if self.rules.answer == "stop":
            raise NotFinite(f"{said}; the last checkpoint is kept.\nSet trainer.precision=32-true. {ADVICE}")
        if trainer.is_global_zero:
            print(f"{said}: it is not the best", flush=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._refuse_unseen(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._refuse_unseen(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "rollbacks": self.rollbacks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        # The checkpoint that a rollback goes back to does not know of it yet.
        self.rollbacks = max(self.rollbacks, state_dict["rollbacks"])

    def summary(self) -> dict[str, int]:
        """What of it a run's summary says: nothing, where nothing happened."""
        found = {"skipped_steps": self.skipped, "rollbacks": self.rollbacks}
        return {name: count for name, count in found.items() if count}

    def _look(self, trainer: Trainer) -> Step | None:
        """The first step since the last look that was not finite, in any process; waits for the device."""
        if not self._unseen:
            return None
        device = trainer.strategy.root_device
        flags = torch.stack([torch.stack([s.loss.to(device), s.gradient.to(device)]).all() for s in self._unseen])
        steps, self._unseen = self._unseen, []
        bad = [step for step, good in zip(steps, flags.tolist(), strict=True) if not good]
        return (bad or steps)[0] if self._agreed(trainer, bool(bad)) else None

    def _agreed(self, trainer: Trainer, bad: bool) -> bool:
        # One process that stopped alone would leave the others waiting for its gradients.
        return trainer.strategy.reduce_boolean_decision(bad, all=False) if trainer.world_size > 1 else bad

    def _refuse_unseen(self, trainer: Trainer, module: LightningModule) -> None:
        if found := self._look(trainer):
            raise NotFinite(self._told(found, module))

    def _answer(self, step: Step, trainer: Trainer, module: Any, optimizer: Optimizer) -> None:
        told = self._told(step, module)
        if self.rules.answer != "skip":
            raise NotFinite(told)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        module.statistics.restore()
        if module.step_left_out:
            return  # the second of two passes through the same batch
        module.step_left_out = True
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row > self.rules.skips:
            raise NotFinite(f"{self.in_a_row} steps in a row were not finite, on_nan_limits.skips is less: {told}")
        if trainer.is_global_zero:
            print(f"left out: {told.splitlines()[0]}", flush=True)

    def _told(self, step: Step, module: Any) -> str:
        what = "the gradient" if bool(step.loss) else "the training loss"
        where = f"{what} is not a finite number in epoch {step.epoch + 1}, step {step.number + 1}"
        names = module.trainer.datamodule.splits["train"].names
        images = [names[int(at)] for index in step.images for at in index]
        of = f" (of {some_names(images)})" if images else ""
        return f"{where}{of}.\nNo such weights are kept: the checkpoint before is. {ADVICE}"

    def _unfinite(self, module: Any) -> str | None:
        return unfinite_weights(dict(module.model.state_dict()), module.model, prefix="")
