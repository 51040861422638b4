"""What every step receives."""

from typing import Any, NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """One batch.

    Attributes:
        images: ``(B, C, H, W)``: ``uint8`` as the workers made it, normalised floats once it is on the device.
        targets: ``(B,)`` class numbers, or ``(B, K)`` labels, values or class probabilities, as the task defines.
        index: ``(B,)`` each image's position in its split: finds the file, the stored view, the prediction's row.
        failures: Images that could not be decoded and are left out of the three above: ``(index, why)`` each.
        boundary: The stage before which a frozen part of the model has already been run: ``images`` are then what it
            gave, one tensor or several, and only the stages from there on are to be run.
    """

    images: Tensor
    targets: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride] -- a batch is never searched like a tuple
    failures: tuple[Any, ...] = ()
    boundary: str | None = None
