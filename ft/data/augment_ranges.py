"""How far augmentation goes: the ranges, and from uniform numbers to what ``ft.data.augment`` takes.

Each image has its own ``NUM_DRAWS`` numbers in [0, 1), drawn whatever is switched on: one setting does not change what
another one draws. A strength in [0, 1] shrinks every range to the value that changes nothing, and multiplies every
probability.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ft.data.augment import affine, crop_sides, erasing_boxes
from ft.errors import one_of, require

NUM_DRAWS = 23
GEOMETRY, COLOUR, BLUR, ERASING = slice(0, 12), slice(12, 16), slice(16, 18), slice(18, 23)
PADDINGS = ("reflection", "border", "zeros")
ERASING_RATIO = (0.3, 3.3)  # width by height, as in the paper
GROUPS = {
    "crop": {"scale", "ratio"},
    "color_jitter": {"contrast", "saturation", "hue"},
    "blur": {"prob", "sigma"},
    "erasing": {"prob", "area"},
}


@dataclass(frozen=True)
class Ranges:
    """What augmentation draws from at strength 1.

    Attributes:
        hflip: Probability of mirroring left and right.
        vflip: Probability of mirroring top and bottom.
        crop: ``scale``: range of the crop's share of the view's area, in ``(0, 1]``, or ``None``; ``ratio``: range of
            its width by its height, relative to the model's input.
        zoom: Range of the factor, above 0; above 1 enlarges.
        rotation: Degrees, either way.
        shear: Degrees, either way, along x and along y.
        translation: Share of the width and the height, either way.
        padding: Beyond the view: ``reflection``, ``border`` or ``zeros``, which is the mean colour; its colours are
            changed with the image's.
        rescale: Pixel values are multiplied by ``1 - x`` to ``1 + x``.
        color_jitter: ``contrast``, ``saturation``: as ``rescale``; ``hue``: turns of the colour circle, either way.
        blur: ``prob``, and the range of ``sigma`` in pixels.
        erasing: ``prob``, and the range of the rectangle's ``area`` as a share of the image.
    """

    hflip: float
    vflip: float
    crop: dict[str, Any]
    zoom: Sequence[float]
    rotation: float
    shear: float
    translation: float
    padding: str
    rescale: float
    color_jitter: dict[str, float]
    blur: dict[str, Any]
    erasing: dict[str, Any]

    def check(self, key: str) -> None:
        """Refuses values that make no sense.

        Args:
            key: Of the whole in the config, for the message.

        Raises:
            UserError: A value is out of range, or a group lacks a name or has one too many.
        """
        for name, names in GROUPS.items():
            group = getattr(self, name)
            valid = isinstance(group, dict) and set(group) == names
            require(valid, f"{key}.{name}", f"must be a group of {', '.join(sorted(names))}", group)
        for name in ("hflip", "vflip", "translation", "rescale"):
            require_between(getattr(self, name), 0, 1, f"{key}.{name}")
        for name, value in self.color_jitter.items():
            require_between(value, 0, 0.5 if name == "hue" else 1, f"{key}.color_jitter.{name}")
        require_between(self.blur["prob"], 0, 1, f"{key}.blur.prob")
        require_between(self.erasing["prob"], 0, 1, f"{key}.erasing.prob")
        require_between(self.rotation, 0, 180, f"{key}.rotation")
        require_between(self.shear, 0, 60, f"{key}.shear")
        if self.crop["scale"] is not None:
            require_range(self.crop["scale"], 1, f"{key}.crop.scale")
        require_range(self.crop["ratio"], 10, f"{key}.crop.ratio")
        require_range(self.zoom, 10, f"{key}.zoom")
        require_range(self.blur["sigma"], 50, f"{key}.blur.sigma")
        require_range(self.erasing["area"], 0.9, f"{key}.erasing.area")
        one_of(self.padding, PADDINGS, f"{key}.padding")

    @property
    def resamples(self) -> bool:
        """Whether pixels move in any way but mirrored."""
        zooms = list(self.zoom) != [1, 1]
        return zooms or self.crop["scale"] is not None or any((self.rotation, self.shear, self.translation))

    @property
    def recolours(self) -> bool:
        return any((self.rescale, *self.color_jitter.values()))

    def matrices(
        self,
        drawn: Sequence[Tensor],
        strength: float,
        *,
        size: tuple[int, int],
        view: tuple[int, int],
        density: float,
    ) -> Tensor:
        """``(B, 2, 3)`` for ``warp``.

        Args:
            drawn: 12 times ``(B,)``.
            strength: In ``[0, 1]``.
            size: Height and width of the output.
            view: Height and width of the view.
            density: Pixels of the view for each of the output where nothing is augmented.
        """
        hflip, vflip, zoom, rotation, shear_x, shear_y, right, down, area, ratio, x, y = drawn
        output, whole = (torch.tensor([float(each[1]), float(each[0])]) for each in (size, view))
        window, centre = torch.full((len(x), 2), density), torch.zeros(len(x), 2)
        if self.crop["scale"] is not None:
            share = min(1.0, float((output * density / whole).prod()))
            area = share + strength * (within(self.crop["scale"], area) - share)
            ratio = (strength * within([math.log(each) for each in self.crop["ratio"]], ratio)).exp()
            sides = crop_sides(area, ratio)
            window = sides * whole / output
            centre = strength * (torch.stack([x, y], 1) - 0.5) * (1 - sides) * whole
        return affine(
            flips=1.0 - 2.0 * torch.stack([hflip < self.hflip * strength, vflip < self.vflip * strength], 1),
            zoom=1 + strength * (within(self.zoom, zoom) - 1),
            shear=strength * either_way(self.shear, torch.stack([shear_x, shear_y], 1)),
            rotation=strength * either_way(self.rotation, rotation),
            translation=strength * either_way(self.translation, torch.stack([right, down], 1)) * output,
            window=window,
            centre=centre,
        )

    def colours(self, drawn: Sequence[Tensor], strength: float) -> Tensor:
        """``(4, B)``: factors of rescaling, contrast and saturation, and turns of the hue; from 4 times ``(B,)``."""
        jitter = self.color_jitter
        reach = torch.tensor([self.rescale, jitter["contrast"], jitter["saturation"], jitter["hue"]])
        unchanged = torch.tensor([1.0, 1.0, 1.0, 0.0])
        return unchanged[:, None] + strength * reach[:, None] * (2 * torch.stack(list(drawn)) - 1)

    def sigmas(self, drawn: Sequence[Tensor], strength: float) -> Tensor:
        """``(B,)`` for ``blur``, from 2 times ``(B,)``."""
        chosen, sigma = drawn
        return within(self.blur["sigma"], sigma) * (chosen < self.blur["prob"] * strength)

    def boxes(self, drawn: Sequence[Tensor], strength: float, size: tuple[int, int]) -> Tensor:
        """``(B, 4)`` for ``erase``, in images of this height and width, from 5 times ``(B,)``."""
        chosen, area, ratio, x, y = drawn
        return erasing_boxes(
            within(self.erasing["area"], area) * (chosen < self.erasing["prob"] * strength),
            within([math.log(each) for each in ERASING_RATIO], ratio).exp(),
            torch.stack([x, y], 1),
            height=size[0],
            width=size[1],
        )


def within(ends: Sequence[float], drawn: Tensor) -> Tensor:
    """Numbers in ``[0, 1)`` to numbers in a range."""
    return ends[0] + (ends[1] - ends[0]) * drawn


def either_way(far: float, drawn: Tensor) -> Tensor:
    """Numbers in ``[0, 1)`` to numbers from ``-far`` to ``far``."""
    return far * (2 * drawn - 1)


def require_between(value: Any, low: float, high: float, key: str) -> None:
    """Refuses what is not a number in ``[low, high]``."""
    require(isinstance(value, int | float) and low <= value <= high, key, f"must be in [{low}, {high}]", value)


def require_range(value: Any, high: float, key: str) -> None:
    """Refuses what is not two numbers in order, above 0 and at most ``high``."""
    numbers = list(value) if isinstance(value, list | tuple) else []
    valid = len(numbers) == 2 and all(isinstance(each, int | float) for each in numbers)
    valid = valid and 0 < numbers[0] <= numbers[1] <= high
    require(valid, key, f"must be two numbers in order, above 0 and at most {high}", value)
