"""What a user of Lightning writes around a callback that unfreezes: a module with ``backbone`` and ``head``."""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tests.benchmarks.peers.common import (
    BATCH_SIZE,
    WARM_UP_STEPS,
    Cell,
    Loaders,
    accuracy,
    copied,
    make_loaders,
    pretrained_model,
)


class Peer(LightningModule):
    """Backbone with pooling, and a linear head as timm initialises it.

    Args:
        cell: Says which model.
        loaders: Say how many classes.
        optimizer: From the module, once its backbone is frozen, to the optimizer.
    """

    def __init__(self, cell: Cell, loaders: Loaders, optimizer: Callable[[Any], torch.optim.Optimizer]) -> None:
        super().__init__()
        self.backbone = pretrained_model(cell, loaders.num_classes)
        self.head: nn.Module = self.backbone.get_classifier()
        self.backbone.reset_classifier(0)
        self.make_optimizer = optimizer
        self.channels_last = cell.accuracy_only
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, K)``."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.head(self.backbone(images))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        logits, targets = self(batch[0]), batch[1]
        self.log("val_loss", F.cross_entropy(logits, targets), batch_size=len(targets))
        self.log("val_acc", (logits.argmax(1) == targets).float().mean(), batch_size=len(targets))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self)


class Watch(Callback):
    """Seconds of every step and validation pass; after each, the accuracy and a copy of the weights."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.epochs: list[dict[str, Any]] = []
        self.states: list[dict[str, Tensor]] = []
        self.steps: list[list[float]] = []
        self.val_seconds: list[float] = []
        self.first_epoch = (0.0, 0.0)
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.steps.append([])
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self.steps[-1].append(now - self._since)
        self._since = now
        if trainer.current_epoch == 0 and trainer.is_last_batch:
            self.first_epoch = self.cell.seconds, sum(self.steps[0])

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._val_since = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.val_seconds.append(time.perf_counter() - self._val_since)
        record = {"epoch": trainer.current_epoch, "seconds": round(self.cell.seconds, 2)}
        self.epochs.append({**record, "val": round(float(trainer.callback_metrics["val_acc"]), 6)})
        self.states.append(copied(pl_module))
        print(json.dumps(self.epochs[-1]), flush=True)


def pace(epochs: list[list[float]]) -> float:
    """Seconds a step, without the first ones."""
    steps = [seconds for epoch in epochs for seconds in epoch]
    return statistics.mean(steps[WARM_UP_STEPS:] or steps)


def run_lightning(
    cell: Cell,
    phases: Sequence[int],
    callbacks: Callable[[Sequence[int]], list[Callback]],
    optimizer: Callable[[Any], torch.optim.Optimizer],
    config: dict[str, Any],
) -> dict[str, Any]:
    """Trains to the end, or times a few steps of each phase.

    Args:
        cell: What is run.
        phases: Epochs of each phase.
        callbacks: From the epochs of each phase to the callbacks that make it so.
        optimizer: From the module, once its backbone is frozen, to the optimizer.
        config: What to say of it in the result.
    """
    loaders = make_loaders(cell)
    module, watch = Peer(cell, loaders, optimizer), Watch(cell)
    wanted = WARM_UP_STEPS + cell.time_steps
    lengths = [math.ceil(wanted / loaders.steps)] * len(phases) if cell.time_steps else phases
    steps = cell.max_steps or (min(wanted, loaders.steps) if cell.time_steps else None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=sum(lengths), accelerator="cpu", callbacks=[*callbacks(lengths), watch], logger=False,
            default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            limit_train_batches=steps,
        )  # fmt: skip
        trainer.fit(module, loaders.train, loaders.val)
    result = {
        "config": {
            **config, "phases": list(phases), "channels_last": module.channels_last, "batch_size": BATCH_SIZE,
            "threads": torch.get_num_threads(),
        }
    }  # fmt: skip
    if cell.time_steps:
        return {**result, **_extrapolated(watch, phases, lengths[0], loaders.steps)}
    for record, state in zip(watch.epochs, watch.states, strict=True):
        module.load_state_dict(state)
        record["test"] = accuracy(module, loaders.test)
    return {**result, "epochs": watch.epochs, "seconds_per_image": pace(watch.steps[-1:]) / BATCH_SIZE}


def _extrapolated(watch: Watch, phases: Sequence[int], timed_epochs: int, steps: int) -> dict[str, Any]:
    """Seconds at the end of each epoch, from a few steps of each phase."""
    timed = [watch.steps[at : at + timed_epochs] for at in range(0, len(watch.steps), timed_epochs)]
    per_step = [pace(epochs) for epochs in timed]
    val = sum(watch.val_seconds) / len(watch.val_seconds)
    # What the first epoch took beyond its steps at their later pace is what starting took.
    startup = watch.first_epoch[0] - len(watch.steps[0]) * per_step[0]
    epoch_seconds, total = [], startup
    for step, length in zip(per_step, phases, strict=True):
        for _ in range(length):
            total += steps * step + val
            epoch_seconds.append(round(total, 2))
    return {
        "startup": startup, "seconds_per_step": per_step, "val_seconds": val, "steps_per_epoch": steps,
        "epoch_seconds": epoch_seconds, "seconds": epoch_seconds[-1], "seconds_per_image": per_step[-1] / BATCH_SIZE,
    }  # fmt: skip
