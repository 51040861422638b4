"""Learning-rate finder: a short sweep before training, from a tiny rate to a huge one, shows which rate learns fastest.

    loss  ------.                 /
                 \\              /  diverges: the sweep ends
                  \\____________/
                 ^ suggested: the steepest descent        rate, growing by the same factor each step

From Smith 2017, https://arxiv.org/abs/1506.01186, section 3.3; exponential and with the steepest descent as in fastai
(Howard & Gugger 2020, https://arxiv.org/abs/2002.04688). Afterwards everything is as it was before.
Turn on with ``plugins=[lr_finder]``.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Trainer

from ft import Batch, FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.data.randomness import seed_global_generators, seeded
from ft.errors import require
from ft.optim.groups import ParamGroup
from ft.plot import lines

KEY = "plugins.lr_finder"


def sweep(min_lr: float, max_lr: float, num_steps: int) -> list[float]:
    """``num_steps`` rates from ``min_lr`` to ``max_lr``, each the same multiple of the one before."""
    return np.geomspace(min_lr, max_lr, num_steps).tolist()


def smooth(losses: Sequence[float], *, smoothing: float) -> list[float]:
    """Exponential moving average, divided by the weight it has so far, so that it does not start from 0.

    Args:
        losses: One a step.
        smoothing: Share of the old average, in ``[0, 1)``.
    """
    average, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = smoothing * average + (1 - smoothing) * loss
        smoothed.append(average / (1 - smoothing**step))
    return smoothed


def has_diverged(smoothed: Sequence[float]) -> bool:
    """Whether the last value is no number, or above four times the lowest: fastai's rule."""
    return not math.isfinite(smoothed[-1]) or smoothed[-1] > 4 * min(smoothed)


def suggest(rates: Sequence[float], losses: Sequence[float], *, smoothing: float) -> float | None:
    """The rate at which the loss falls fastest, per factor of the rate.

    Args:
        rates: Rising.
        losses: The loss at each.
        smoothing: As in ``smooth``.

    Returns:
        ``None`` where the loss never falls.
    """
    finite = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if math.isfinite(loss)]
    if len(finite) < 2:
        return None
    forwards = np.array(smooth([loss for _, loss in finite], smoothing=smoothing))
    # What rises after the lowest loss would reach down into the descent when it is smoothed backwards.
    end = int(forwards.argmin()) + 2
    backwards = np.array(smooth([loss for _, loss in finite[:end]][::-1], smoothing=smoothing))[::-1]
    # Smoothed in one direction alone the descent seems to come later: at rates several times too high.
    x, y = np.log([rate for rate, _ in finite[:end]]), (forwards[:end] + backwards) / 2
    slopes = np.gradient(y, x)
    # The first averages are of a few losses only: their slope is noise.
    slopes[: len(finite) // 10] = np.inf
    steepest = int(slopes.argmin())
    return float(math.exp(x[steepest])) if slopes[steepest] < 0 else None


class LrFinder(Plugin):
    """Sweeps the rate before the first epoch of a fresh run, with an optimizer of its own.

    Args:
        min_lr: Where the sweep begins, above 0.
        max_lr: Where it ends at the latest, above ``min_lr``.
        num_steps: Training batches it takes, at least 2; those of the first epoch, over and over.
        smoothing: Share of the old average in the smoothed loss, in ``[0, 1)``.
        apply: Whether to train with the suggestion in place of ``optimizer.lr``; otherwise it is only told.
        plot: Draws the sweep.

    Raises:
        UserError: A value is out of range, or the optimizer has no learning rate in this sense.
    """

    needs_whole_weights = True
    neutral: ClassVar = {"apply": False}

    def __init__(
        self, *, min_lr: float, max_lr: float, num_steps: int, smoothing: float, apply: bool, plot: bool
    ) -> None:
        require(min_lr > 0, f"{KEY}.min_lr", "must be above 0", min_lr)
        require(max_lr > min_lr, f"{KEY}.max_lr", f"must be above min_lr={min_lr}", max_lr)
        require(num_steps >= 2, f"{KEY}.num_steps", "must be at least 2", num_steps)
        require(0 <= smoothing < 1, f"{KEY}.smoothing", "must be in [0, 1)", smoothing)
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.num_steps = num_steps
        self.smoothing = smoothing
        self.apply = apply
        self.plot = plot
        self.lr = 0.0
        self.suggestion: float | None = None

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        options = module.optimizer_options
        if options.full_batch or options.single_group:
            raise UserError(
                f"plugins=[lr_finder] sweeps the rate of mini-batch steps, which optimizer={options.name} does not "
                "take: leave lr_finder out, or set optimizer=adamw or sgd."
            )
        self.lr = options.lr

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        # Not in begin_epoch: by now every plugin has begun the epoch, and the sweep sees what training will see. The
        # module's own hook follows, and takes the suggestion over.
        if self.suggestion is None and trainer.global_step == 0:
            rates, losses = self._sweep(pl_module, trainer)
            found = suggest(rates, losses, smoothing=self.smoothing)
            # Every process has swept its own images.
            self.suggestion = trainer.strategy.broadcast(found or self.lr)
            if trainer.is_global_zero:
                self._tell(rates, losses, Path(trainer.default_root_dir), found)

    def lr_factor(self, factor: float, step: int, group: ParamGroup, steps_per_epoch: int) -> float:
        if not self.apply or self.suggestion is None:
            return factor
        return factor * self.suggestion / self.lr

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.suggestion is not None:
            pl_module.log(f"plugins/{self.name}/lr", self.suggestion)

    def state_dict(self) -> dict[str, Any]:
        return {"suggestion": self.suggestion, "lr": self.lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.suggestion, self.lr = state_dict["suggestion"], state_dict["lr"]

    def _sweep(self, module: FineTuner, trainer: Any) -> tuple[list[float], list[float]]:
        """Rates and losses, as far as the sweep came."""
        rates, losses = sweep(self.min_lr, self.max_lr, self.num_steps), []
        groups = [{**group} for group in trainer.optimizers[0].param_groups]
        optimizer = module.optimizer_options.make(groups)
        with untouched(module):
            for step, (rate, batch) in enumerate(zip(rates, batches(trainer.datamodule), strict=False)):
                batch = trainer.strategy.batch_to_device(batch, module.device)
                for group in optimizer.param_groups:
                    # What a stage's rate is, relative to optimizer.lr, stays.
                    group["lr"] = rate * group["initial_lr"] / self.lr
                seed_global_generators(module.seed, self.name, step, trainer.global_rank)
                optimizer.zero_grad()  # before: of a batch that goes through in pieces, the first are done afterwards
                with trainer.precision_plugin.train_step_context():
                    loss = module.training_step(batch, step)
                # Of the images of a batch none could be read.
                losses.append(losses[-1] if loss is None and losses else math.inf if loss is None else loss.item())
                diverged = has_diverged(smooth(losses, smoothing=self.smoothing))
                # The processes agree: synchronised batch norm would wait for one that has stopped alone.
                if trainer.strategy.reduce_boolean_decision(diverged, all=False):
                    break
                if loss is not None:
                    loss.backward()
                    optimizer.step()
        return rates[: len(losses)], losses

    def _tell(self, rates: Sequence[float], losses: Sequence[float], folder: Path, found: float | None) -> None:
        used = "it is used in place of" if self.apply else "not used: apply=false keeps"
        text = "the loss never fell: it keeps" if found is None else f"{found:.2g}; {used}"
        print(f"{self.name}: {text} optimizer.lr={self.lr:g}", flush=True)
        if self.plot:
            lines(
                folder / f"{self.name}.png",
                {"loss": (rates, losses), "smoothed": (rates, smooth(losses, smoothing=self.smoothing))},
                xlabel="learning rate",
                ylabel="training loss",
                title="learning-rate range test",
                logx=True,
                marks={} if found is None else {f"suggested: {found:.2g}": found},
            )


def batches(data: DataModule) -> Iterator[Batch]:
    """Those of the first epoch, from a loader of its own, over and over."""
    loader: Any = data.train_dataloader()
    while True:
        yield from loader


@contextmanager
def untouched(module: FineTuner) -> Iterator[None]:
    """Afterwards weights, buffers, gradients, modes and random generators are what they were; nothing is logged."""
    tensors = [*module.model.parameters(), *module.model.buffers()]
    kept = [tensor.detach().clone() for tensor in tensors]
    devices = [module.device] if module.device.type == "cuda" else []
    module.repeating = True
    with seeded(module.seed, "untouched"), torch.random.fork_rng(devices):
        yield
    module.repeating = False
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
    for parameter in module.model.parameters():
        parameter.grad = None
    assert module.phase is not None
    module.enter(module.phase)
