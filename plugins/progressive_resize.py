"""Progressive resizing: small images first, which is fast, and full size at the end, where the detail is.

    epoch   0     1     2     3     4
    side  112   144   176   192   224      of 224 pixels, start=0.5, over=1, multiple_of=16

Howard's trick for fast.ai's DAWNBench entry (2018); Tan & Le 2021 ("progressive learning"),
https://arxiv.org/abs/2104.00298, section 4. That training a little smaller than testing does no harm is Touvron et al.
2019 (FixRes), https://arxiv.org/abs/1906.06423. Turn on with ``plugins=[progressive_resize]``, after plugins that crop.
"""

import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Generator, Tensor

from ft import FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.errors import require
from ft.plugin import overrides

KEY = "plugins.progressive_resize"


def side(epoch: int, *, full: int, start: float, over: float, num_epochs: int, multiple_of: int) -> int:
    """Pixels a side in an epoch.

    Args:
        epoch: From 0.
        full: The side the model was made for.
        start: Share of it in the first epoch, in ``(0, 1]``.
        over: Share of the epochs, in ``(0, 1]``, after which images have their full size; in the last epoch they do.
        num_epochs: Of the run.
        multiple_of: Smaller sides are rounded to a multiple of this, and are at least as much.
    """
    done = min(1.0, epoch / (over * max(num_epochs - 1, 1)))
    wanted = full * (start + (1 - start) * done)
    return full if done == 1 else min(full, max(multiple_of, int(wanted / multiple_of + 0.5) * multiple_of))


def shrink(images: Tensor, *, height: int, width: int) -> Tensor:
    """Resizes ``(B, C, H, W)`` images, bilinearly and with antialiasing; on the device, for the whole batch."""
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)


class ProgressiveResize(Plugin):
    """Trains on smaller images first.

    Args:
        start: Side in the first epoch, relative to the model's, in ``(0, 1]``; 1 changes nothing.
        over: Share of the epochs, in ``(0, 1]``, over which the side grows.
        multiple_of: Sides are multiples of this: of the patch size of a transformer, of the stride of other models.

    Raises:
        UserError: A value is out of range, the model takes images of one size only, or a plugin that needs larger views
            comes later.
    """

    neutral: ClassVar = {"start": 1.0}

    def __init__(self, *, start: float, over: float, multiple_of: int) -> None:
        require(0 < start <= 1, f"{KEY}.start", "must be in (0, 1]", start)
        require(0 < over <= 1, f"{KEY}.over", "must be in (0, 1]", over)
        whole = isinstance(multiple_of, int) and multiple_of >= 1
        require(whole, f"{KEY}.multiple_of", "must be at least 1 pixel", multiple_of)
        self.start = start
        self.over = over
        self.multiple_of = multiple_of
        self.num_epochs = 0
        self.full = (0, 0)
        self.current = (0, 0)

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        if self.start == 1:
            return
        for later in module.plugins[module.plugins.index(self) + 1 :]:
            # Such a plugin asks the workers for a view of its own size, and makes the model's size of it.
            if overrides(later, "train_transform") and overrides(later, "train_batch"):
                raise UserError(
                    f"plugins: {later.name} crops from views that progressive_resize would already have shrunk: "
                    f"put progressive_resize after {later.name}."
                )
        epochs = trainer.max_epochs or -1
        require(epochs > 0, "trainer.max_epochs", f"must say how long the run is for {KEY}", trainer.max_epochs)
        self.num_epochs = epochs
        self.full = (module.model.input_spec.height, module.model.input_spec.width)
        for height, width in sorted({self._size(epoch) for epoch in range(epochs)}):
            require_size(module.model, height, width)

    def begin_epoch(self, epoch: int, module: FineTuner) -> None:
        if self.start < 1:
            self.current = self._size(epoch)

    def train_batch(self, images: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        if self.current == self.full:
            return images, targets
        return shrink(images, height=self.current[0], width=self.current[1]), targets

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.start < 1:
            pl_module.log(f"plugins/{self.name}/side", float(self.current[0]))

    def _size(self, epoch: int) -> tuple[int, int]:
        height, width = (
            side(
                epoch,
                full=full,
                start=self.start,
                over=self.over,
                num_epochs=self.num_epochs,
                multiple_of=self.multiple_of,
            )
            for full in self.full
        )
        return height, width


def require_size(model: Any, height: int, width: int) -> None:
    """Tries one black image of a size, without leaving a trace in the model.

    Raises:
        UserError: The model does not take it.
    """
    spec, modes = model.input_spec, [(part, part.training) for part in model.modules()]
    weight = next(model.parameters())
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, spec.channels, height, width, dtype=weight.dtype, device=weight.device))
    # timm asserts; other models raise what their layers raise.
    except (AssertionError, RuntimeError, ValueError) as error:
        backbone = type(getattr(model, "backbone", model))
        flexible = "dynamic_img_size" in inspect.signature(backbone.__init__).parameters
        change = (
            f"set +model.kwargs.dynamic_img_size=true, and {KEY}.multiple_of to a multiple of its patch size"
            if flexible
            else f"set another {KEY}.multiple_of, take another model, or leave progressive_resize out"
        )
        raise UserError(
            f"plugins=[progressive_resize] trains at {height} x {width} pixels, which {backbone.__name__} does not "
            f"take ({error}): {change}."
        ) from error
    finally:
        for part, mode in modes:
            part.training = mode
