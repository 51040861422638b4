"""EMA: validation, testing and checkpoints use an exponential moving average of the weights.

    average <- decay * average + (1 - decay) * weights            after every optimizer step

With ``warmup`` the decay starts small, min(decay, (1 + step) / (10 + step)), so that a short run's average does not
remember the random head. Polyak & Juditsky 1992; as in Tarvainen & Valpola 2017, https://arxiv.org/abs/1703.01780,
section 2; the warm-up is TensorFlow's and timm's. Turn on with ``plugins=[ema]``.
"""

from typing import Any, ClassVar

from lightning.pytorch import Trainer

from ft import Plugin
from ft.checkpoint.evaluated_weights import EvaluatedWeights
from ft.errors import require


def decay_at(step: int, *, decay: float, warmup: bool) -> float:
    """The decay of the update after optimizer step ``step``, from 1."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


class Ema(Plugin):
    """Averages the weights exponentially.

    Args:
        decay: Share of the old average, in ``[0, 1)``; 0 is no average at all.
        warmup: Whether the decay rises with the steps.

    Raises:
        UserError: ``decay`` is out of range.
    """

    changes_evaluation = True
    exclusive = frozenset({"averages the weights"})
    neutral: ClassVar = {"decay": 0.0}

    def __init__(self, *, decay: float, warmup: bool) -> None:
        require(0 <= decay < 1, "plugins.ema.decay", "must be in [0, 1)", decay)
        self.decay = decay
        self.warmup = warmup
        self.weights = EvaluatedWeights()
        self.updates = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Not after a batch whose gradients are still being accumulated.
        if self.decay == 0:
            self.weights.average.clear()  # that of a run that was resumed without
        elif trainer.global_step > self.updates:
            self.updates = trainer.global_step
            if not pl_module.step_left_out:
                share = 1 - decay_at(self.updates, decay=self.decay, warmup=self.warmup)
                self.weights.update(pl_module.model, share)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights.swap_in(pl_module.model)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights.swap_out(pl_module.model)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.weights.write(checkpoint, pl_module.model)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.weights.read(checkpoint, pl_module.model)
        self.updates = checkpoint["global_step"]
