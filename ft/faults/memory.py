"""Out of memory while training: the batch goes through in smaller pieces, and the step is repeated.

    32 images --> does not fit --> 16 + 16, gradients added up --> one optimizer step, as with 32

The effective batch, the number of steps and the schedule stay as they are. Only what depends on the images that are
looked at together changes: BatchNorm's statistics, what dropout draws, and a loss that divides by the sum of class
weights.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ft.data.batch import Batch
from ft.errors import OutOfMemory

# How allocators say it: the CPU's raises a plain RuntimeError, and so do cuDNN and cuBLAS.
WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short."""
    if isinstance(error, OutOfMemory | MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def cut(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in pieces of ``size`` images, the last one perhaps smaller; what could not be read is told once."""
    for start in range(0, len(batch.index), size):
        here = slice(start, start + size)
        values: Any = batch.images  # several tensors where several cross a boundary
        images = values[here] if isinstance(values, Tensor) else tuple(each[here] for each in values)
        failures = batch.failures if start == 0 else ()
        yield batch._replace(images=images, targets=batch.targets[here], index=batch.index[here], failures=failures)


class Pieces:
    """Takes training batches through a model in pieces that fit.

    Args:
        size: Images that go through at once (``trainer.micro_batch``); ``None``: all of a batch.
        tell: Called with every smaller size, so that a resumed run begins with it.
    """

    def __init__(self, size: int | None, tell: Callable[[int], None]) -> None:
        self.size = size
        self.tell = tell
        self.holds_gradients = False
        self._window: list[tuple[Batch, int]] = []

    def loss(self, module: Any, batch: Batch, batch_idx: int) -> Tensor | None:
        """Of a batch; gradients of all its pieces but the last are in place already.

        Args:
            module: The ``FineTuner``.
            batch: As plugins have changed it.
            batch_idx: Within the epoch.

        Raises:
            OutOfMemory: One image alone does not fit.
        """
        if batch_idx % module.trainer.accumulate_grad_batches == 0:
            self._window.clear()
            self.holds_gradients = False
        self._window.append((batch, batch_idx))
        try:
            return self._through(module, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the error's traceback holds on to all the memory of the pass that has failed.
        return self._again(module, whole=False)

    def backward(self, module: Any, loss: Tensor) -> None:
        """Of the last piece.

        Raises:
            OutOfMemory: It does not fit, and other processes have gradients of this step already.
        """
        try:
            loss.backward()
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        loss.detach_()  # lets go of what the pass has kept
        if module.trainer.world_size > 1:
            self._halve(module)
            raise OutOfMemory(
                f"out of memory in the middle of a step that {module.trainer.world_size} processes share.\n"
                f"Resume the run: it goes on with trainer.micro_batch={self.size}."
            )
        self._again(module, whole=True)

    def _again(self, module: Any, *, whole: bool) -> Tensor | None:
        """The batches since the last optimizer step once more, in smaller pieces; the last one without its last piece.

        Args:
            module: The ``FineTuner``.
            whole: The last piece too.
        """
        while True:
            self._halve(module)
            _empty_cache(module)
            try:
                module.statistics.restore()
                self._clear_gradients(module)
                with module.trainer.precision_plugin.train_step_context():
                    *before, (batch, batch_idx) = self._window
                    for earlier, at in before:
                        module.on_train_batch_start(None, at, repeated=True)
                        self._backward(module, self._through(module, earlier, clear=False))
                    module.on_train_batch_start(None, batch_idx, repeated=True)
                    loss = self._through(module, batch, clear=False)
                    if whole:
                        self._backward(module, loss)
                return loss
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
                    raise

    def _through(self, module: Any, batch: Batch, *, clear: bool = True) -> Tensor | None:
        size, images = self.size, len(batch.index)
        if size is None or size >= images:
            return module.one_step(batch, "train")
        if clear and len(self._window) == 1:
            # Lightning does so between this pass and its own backward pass, where it would be too late.
            self._clear_gradients(module)
        total = torch.zeros((), device=module.device)
        pieces = list(cut(batch, size))
        for piece in pieces[:-1]:
            loss = module.one_step(piece, "train") * (len(piece.index) / images)
            self._backward(module, loss)
            total = total + loss.detach()
        last = module.one_step(pieces[-1], "train") * (len(pieces[-1].index) / images)
        return last + total

    def _backward(self, module: Any, loss: Tensor | None) -> None:
        if loss is None:
            return
        loss = loss / module.trainer.accumulate_grad_batches
        scaler: Any = getattr(module.trainer.precision_plugin, "scaler", None)
        scaled: Any = loss if scaler is None else scaler.scale(loss)
        scaled.backward()

    def _clear_gradients(self, module: Any) -> None:
        for parameter in module.parameters():
            parameter.grad = None
        self.holds_gradients = True

    def _halve(self, module: Any) -> None:
        images = max(len(batch.index) for batch, _ in self._window)
        before = images if self.size is None else min(self.size, images)
        if before <= 1:
            raise OutOfMemory(
                f"out of memory with one image at a time, in epoch {module.current_epoch + 1}.\n"
                "Set a smaller model.img_size or model.name, trainer.precision=bf16-mixed, or open less of the model "
                "(model.open=head)."
            )
        self.size = (before + 1) // 2
        self.tell(self.size)
        note = ""
        if module.statistics.are_open:
            note = (
                f"; BatchNorm now sees {self.size} images at a time (plugins=[frozen_batchnorm] keeps its statistics)"
            )
        print(
            f"out of memory with {before} images at a time: trainer.micro_batch={self.size} from here on, "
            f"in steps of {images} as before{note}",
            flush=True,
        )


def _empty_cache(module: Any) -> None:
    if module.device.type == "cuda":
        torch.cuda.empty_cache()
