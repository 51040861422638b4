"""What a backbone wants to see: the one source of every transform (train, val, predict, export, serve)."""

from dataclasses import dataclass

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class InputSpec:
    """The preprocessing a backbone was trained with.

    Args:
        height: Pixels.
        width: Pixels.
        mean: Per channel, of images in ``[0, 1]``.
        std: Per channel, of images in ``[0, 1]``.
        interpolation: ``bilinear``, ``bicubic``, ``nearest`` or ``lanczos``.
        crop_pct: Share of the resized image's shorter side that the central crop keeps, in ``(0, 1]``.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def pillow_mode(self) -> str:
        """The Pillow mode with as many bands as the model has input channels."""
        return MODES[self.channels]
