"""Full fine-tuning as timm's ``train.py`` does it, and the same with bf16 autocast and channels_last.

    train.py DIR --model NAME --pretrained --opt adamw --sched cosine --lr RATE --weight-decay 0.05 --epochs 8
        --warmup-epochs 0 --color-jitter 0 --train-interpolation bicubic -b 32
        [--amp --amp-dtype bfloat16 --channels-last]

The rest is timm's default: label smoothing 0.1, random crop of 8 to 100 %, no decay of biases and norms, an incomplete
last batch dropped, one rate an epoch. No warm-up, because timm's 5 epochs would take most of these 8 and, with one rate
an epoch, the first of them is spent at 1e-5: leaving it out is in timm's favour.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

from tests.benchmarks.peers.common import (
    BATCH_SIZE,
    WARM_UP_STEPS,
    Cell,
    Loaders,
    accuracy,
    copied,
    first,
    make_loaders,
    pretrained_model,
)


class FullFineTuning:
    """Model, optimizer and schedule of one cell."""

    def __init__(self, cell: Cell, loaders: Loaders) -> None:
        self.cell = cell
        self.loaders = loaders
        self.bf16 = cell.method == "timm_bf16"
        self.channels_last = cell.method == "timm_bf16" or cell.accuracy_only
        self.model = pretrained_model(cell, loaders.num_classes)
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = create_optimizer_v2(self.model, opt="adamw", lr=cell.rate, weight_decay=0.05)
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer, sched="cosine", num_epochs=cell.epochs, warmup_epochs=0, min_lr=0.0
        )
        self.loss = LabelSmoothingCrossEntropy(0.1)
        self.seconds: list[float] = []

    def train_epoch(self, epoch: int, num_steps: int = 0) -> None:
        """One pass over the training images, or ``num_steps`` of it; remembers the seconds of every step."""
        self.scheduler.step(epoch)
        self.model.train()
        last = time.perf_counter()
        for images, targets in first(self._batches(epoch), num_steps or self.cell.max_steps):
            if self.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                loss = self.loss(self.model(images), targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            now = time.perf_counter()
            self.seconds.append(now - last)
            last = now

    def score(self, split: str) -> float:
        return accuracy(self.model, getattr(self.loaders, split), channels_last=self.channels_last, bf16=self.bf16)

    def _batches(self, epoch: int) -> Iterator[Any]:
        # So that a cell that was killed goes on with the order it would have had.
        self.loaders.train.generator.manual_seed(1000 * self.cell.seed + epoch)
        return iter(self.loaders.train)


def run(cell: Cell) -> dict[str, Any]:
    """Trains to the end, or times a few steps."""
    loaders = make_loaders(cell)
    method = FullFineTuning(cell, loaders)
    config = {
        "rate": cell.rate, "epochs": cell.epochs, "weight_decay": 0.05, "warmup_epochs": 0, "smoothing": 0.1,
        "bf16": method.bf16, "channels_last": method.channels_last, "batch_size": BATCH_SIZE,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    return {"config": config, **(_timed(cell, method) if cell.time_steps else _trained(cell, method))}


def _trained(cell: Cell, method: FullFineTuning) -> dict[str, Any]:
    epochs: list[dict[str, Any]] = []
    states = []
    kept = Path(cell.keep) / "state.pt" if cell.keep else None
    if kept and kept.is_file():
        epochs = _restore(kept, method)
    for epoch in range(len(epochs), cell.epochs):
        method.train_epoch(epoch)
        if cell.choosing and epoch < cell.epochs - 1:
            continue
        val = method.score("val")
        epochs.append({"epoch": epoch, "seconds": round(cell.seconds, 2), "val": val})
        if cell.accuracy_only and not cell.choosing:
            # No clock to keep it off from, and the log shows it at once.
            epochs[-1]["test"] = method.score("test")
        else:
            states.append(copied(method.model))
        print(json.dumps(epochs[-1]), flush=True)
        if kept:
            _store(kept, method, epochs)
    for record, state in zip(epochs, states, strict=False) if not cell.choosing else ():
        method.model.load_state_dict(state)
        record["test"] = method.score("test")
    steps = method.seconds[WARM_UP_STEPS:] or method.seconds
    return {"epochs": epochs, "seconds_per_image": sum(steps) / max(1, len(steps)) / BATCH_SIZE}


def _timed(cell: Cell, method: FullFineTuning) -> dict[str, Any]:
    while len(method.seconds) < WARM_UP_STEPS + cell.time_steps:
        method.train_epoch(0, WARM_UP_STEPS + cell.time_steps - len(method.seconds))
    until = cell.seconds
    steps = method.seconds[WARM_UP_STEPS:]
    began = time.perf_counter()
    method.score("val")
    val = time.perf_counter() - began
    step = sum(steps) / len(steps)
    # What came before is what starting took, beyond the steps at their later pace.
    startup = until - len(method.seconds) * step
    epoch = method.loaders.steps * step + val
    epoch_seconds = [round(startup + number * epoch, 2) for number in range(1, cell.epochs + 1)]
    return {
        "startup": startup, "seconds_per_step": step, "val_seconds": val, "steps_per_epoch": method.loaders.steps,
        "epoch_seconds": epoch_seconds, "seconds": epoch_seconds[-1], "seconds_per_image": step / BATCH_SIZE,
    }  # fmt: skip


def _store(path: Path, method: FullFineTuning, epochs: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "model": method.model.state_dict(), "optimizer": method.optimizer.state_dict(), "epochs": epochs,
        "random": torch.get_rng_state(),
    }  # fmt: skip
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _restore(path: Path, method: FullFineTuning) -> list[dict[str, Any]]:
    state = torch.load(path, weights_only=True)
    method.model.load_state_dict(state["model"])
    method.optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    print(f"going on after epoch {len(state['epochs']) - 1}", flush=True)
    return state["epochs"]
