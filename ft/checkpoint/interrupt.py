"""Ctrl-C and SIGTERM: the batch that is being trained on is finished, the checkpoint is written, and the run ends.

    where the signal comes                      what is done
    a batch, or the wait for the next           it ends; ``last`` is written; resuming goes on with the next batch
    validation, the end of an epoch             they end; ``last`` is written as always; resuming begins the next epoch
    cached phases, the head, the final test     stops at once: what was computed is computed again (of several processes
                                                those that train before the next batch, together)

Stopping wherever Python happens to be could fall between the optimizer's step and the loop's count of it; a resumed run
would then train on one batch twice. A second signal stops at once all the same, and so does SIGTERM where a batch or
validation does not come to its end within seconds: ``last`` is then what it was before.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ft.checkpoint.requeue import requeue_signal
from ft.errors import Terminated

# Seconds that SIGTERM waits for a batch or validation: who sends it often kills after 10.
PATIENCE = 7.0
# Within so many seconds after SIGTERM a further signal is the same request, passed on by a launcher that got it too.
ONE_REQUEST = 2.0
# Seconds that the other processes of this machine get to end after the first.
CHILDREN = 5.0


class BetweenBatches(KeyboardInterrupt):
    """Everything is at rest: what is saved now can be gone on from."""


class StopBetweenBatches(Callback):
    """Turns the first signal into ``BetweenBatches`` before the next training batch; the second stops at once.

    Attributes:
        number: Of the signal that came; 0 before.
        ended: Whether everybody was told of the end of training; of a run that is resumed behind its last epoch,
            Lightning tells nobody.
    """

    def __init__(self) -> None:
        self.number = 0
        self.ended = False
        self._came: float | None = None  # when it came to this process, as ``time.monotonic()`` tells it
        self._waits = False  # whether stopping at once would lose what is about to be saved
        self._saves = False  # whether it is being saved
        self._listens = False
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def asked(self) -> bool:
        """Whether a signal came, here or in another process of the run."""
        return self.number != 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen_again()
        if self.asked:
            raise self.exception()

    on_test_start = on_predict_start = on_train_start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # ``last`` has just been written, and before the first epoch there is nothing to write.
        if self._agreed(trainer):
            raise self.exception()
        # One of several processes does not leave alone: the others may not have been sent the signal.
        self._waits, self._saves = trainer.world_size > 1, False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._waits = True
        # Between two steps of the optimizer: gradients that are still being collected are in no checkpoint.
        if batch_idx % trainer.accumulate_grad_batches == 0 and self._agreed(trainer):
            self._saves = True
            raise BetweenBatches

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saves = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ended = True
        self._saves = False
        self._limit_waiting()  # a plugin may have something to compute at the end

    def stop_if_asked(self, trainer: Trainer) -> None:
        """To be called in every process when training has come to its end, and everybody has seen that.

        Raises:
            KeyboardInterrupt: A signal came in the last epoch.
        """
        if self._agreed(trainer):
            raise self.exception()
        self._waits = self._saves = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, KeyboardInterrupt):
            return
        # Lightning's watcher kills this process when one of those that it started ends otherwise than well, and they
        # are about to.
        started = getattr(trainer.strategy.launcher, "procs", [])
        self._children = list(started)
        started.clear()
        if not isinstance(exception, BetweenBatches):
            for child in self._children:
                child.kill()

    def exception(self) -> KeyboardInterrupt:
        """What ends the process with the exit code of the signal."""
        return KeyboardInterrupt() if self.number in (0, signal.SIGINT) else Terminated()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, Ctrl-C, SIGTERM and SLURM's announcement of its time limit are this callback's.

        Raises:
            KeyboardInterrupt: One came; everything that could be saved is.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread alone.
            return
        numbers = [signal.SIGINT, signal.SIGTERM, *requeue_signal()]
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        self._listens = True
        try:
            yield
        except SystemExit:
            # Lightning's answer to KeyboardInterrupt, after the callbacks have written their last checkpoint.
            raise self.exception() from None
        finally:
            self._listens = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._see_children_off()

    def _listen_again(self) -> None:
        # Lightning has put a handler of its own before this one: in it, a process waits for the others, which need not
        # have been sent the signal.
        if self._listens:
            signal.signal(signal.SIGTERM, self._on_signal)

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether to stop, the same in all processes: one alone would leave the others waiting for its gradients."""
        number = torch.tensor(self.number, device=trainer.strategy.root_device)
        agreed = int(trainer.strategy.reduce(number, reduce_op="max"))
        # One that came here in the meantime is for the next time: the others know nothing of it.
        self.number = agreed or self.number
        return agreed != 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._came is not None:
            launched = self.number == signal.SIGTERM or "TORCHELASTIC_RUN_ID" in os.environ
            if launched and time.monotonic() - self._came < ONE_REQUEST:
                return
            raise self.exception()
        self._came = time.monotonic()
        if self.asked:
            return  # another process of the run was faster, and this one stops already
        self.number = number
        if not self._waits:
            raise self.exception()
        self._limit_waiting()
        # Not print: the signal may have come inside one, and Python's streams do not take two at a time.
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        with suppress(OSError):
            os.write(2, f"\nstopping after this batch and its checkpoint; {again} stops at once\n".encode())

    def _limit_waiting(self) -> None:
        if self._listens and self.number == signal.SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self._saves:
            raise self.exception()

    def _see_children_off(self) -> None:
        """The processes that Lightning has started for the other devices end before this one does."""
        until = time.monotonic() + CHILDREN
        for child in self._children:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children = []
