"""What a run shows while it trains: one line an epoch, in a terminal below a bar; and how fast it is."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich import get_console


class PlainProgress(ProgressBar):
    """One line an epoch: for logs, pipes and job schedulers."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            print(epoch_line(trainer, pl_module), flush=True)

    def disable(self) -> None:
        """Nothing to turn off."""

    def enable(self) -> None:
        """Nothing to turn on."""


class TerminalProgress(RichProgressBar):
    """Lightning's bar, which vanishes with its epoch, above the same lines."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            # The console that the bar lives on: a line of another one would tear it.
            get_console().print(epoch_line(trainer, pl_module), highlight=False, markup=False)


def epoch_line(trainer: Trainer, pl_module: Any) -> str:
    """Losses and metrics of an epoch, and how much of the model was open where that is not all."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    shown = "  ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()) if _is_main(name))
    total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
    opened, stages = len(pl_module.phase.stages), len(pl_module.stage_names)
    part = "" if opened == stages else f"  open {opened} of {stages} stages"
    return f"epoch {trainer.current_epoch + 1}/{total}  {shown}{part}"


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
