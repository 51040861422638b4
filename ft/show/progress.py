"""What a run shows while it trains when there is no terminal, and how fast it is."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar


class PlainProgress(ProgressBar):
    """One line an epoch: for logs, pipes and job schedulers."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        shown = "  ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()) if _is_main(name))
        total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
        print(f"epoch {trainer.current_epoch + 1}/{total}  {shown}", flush=True)

    def disable(self) -> None:
        """Nothing to turn off."""

    def enable(self) -> None:
        """Nothing to turn on."""


class Clock(Callback):
    """Training images a second, over the time spent in training batches alone."""

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self._since = 0.0

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A full-batch step has seen the whole set at least once.
        size = len(batch.index) if hasattr(batch, "index") else len(batch)
        self.images += size * trainer.world_size
        if trainer.is_last_batch:
            self.seconds += time.perf_counter() - self._since


def _is_main(name: str) -> bool:
    return name in ("train/loss", "val/loss") or name.startswith("val/")
