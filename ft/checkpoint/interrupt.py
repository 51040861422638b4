"""Ctrl-C: the batch that is being trained on is finished, the checkpoint is written, and the run ends.

Stopping wherever Python happens to be could fall between the optimizer's step and the loop's count of it; a resumed run
would then train on one batch twice.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class BetweenBatches(KeyboardInterrupt):
    """Everything is at rest: what is saved now can be gone on from."""


class StopBetweenBatches(Callback):
    """Turns the first Ctrl-C into ``BetweenBatches`` before the next training batch; the second stops at once.

    Attributes:
        asked: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.asked = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # The processes agree: one that stopped alone would leave the others waiting for its gradients.
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            self.asked = True
            raise BetweenBatches

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, Ctrl-C is this callback's."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread alone.
            return
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            signal.default_int_handler(number, frame)
        self.asked = True
        print("\nstopping after this batch and its checkpoint; Ctrl-C again stops at once", file=sys.stderr, flush=True)
