"""What the workers hand over for augmentation: more pixels than the model takes, so that cropping does not blur.

    +----------------+
    |  +----------+  |   inner frame: what evaluation shows
    |  |          |  |   outer frame: the view, ``presize`` times as wide
    |  +----------+  |
    +----------------+

fastai's presizing (Howard & Gugger 2020, https://arxiv.org/abs/2002.04688, section 2.4). Where the resized image has no
pixels beyond the inner frame, the view shows as much in more pixels.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from ft.data.transforms import Change, Transform
from ft.input_spec import InputSpec

POLICIES = ("none", "trivial", "rand", "augmix")


def view_spec(spec: InputSpec, presize: float) -> InputSpec:
    """The spec of the view: ``presize`` times the size, at the resolution evaluation has, as far as that goes.

    The sizes differ by an even number: the middle of the view is, pixel for pixel, what evaluation shows.
    """
    height, width = (side + 2 * round(side * (presize - 1) / 2) for side in (spec.height, spec.width))
    # Half a pixel more, so that the division that follows cannot land just below the whole number.
    crop_pct = height / (math.floor(spec.height / spec.crop_pct) + 0.5)
    return replace(spec, height=height, width=width, crop_pct=min(1.0, crop_pct))


def density(spec: InputSpec, view: InputSpec) -> float:
    """Pixels of the view for each pixel of evaluation, at least 1."""
    return math.floor(view.height / view.crop_pct) / math.floor(spec.height / spec.crop_pct)


@lru_cache(maxsize=4)
def policy_at(name: str, strength: float, fill: tuple[int, ...]) -> v2.Transform:
    """A policy for ``(C, H, W)`` ``uint8`` images, C 1 or 3, that draws from torch's global generator.

    Args:
        name: ``trivial`` (https://arxiv.org/abs/2103.10158), ``rand`` (https://arxiv.org/abs/1909.13719) or ``augmix``
            (https://arxiv.org/abs/1912.02781).
        strength: In ``(0, 1]``: TrivialAugment's probability, RandAugment's magnitude out of 9, AugMix' severity out
            of 3.
        fill: Colour beyond the image, a number a channel.
    """
    common = {"interpolation": InterpolationMode.BILINEAR, "fill": list(fill)}
    if name == "trivial":
        return v2.RandomApply([v2.TrivialAugmentWide(**common)], p=strength)
    if name == "rand":
        return v2.RandAugment(magnitude=round(9 * strength), **common)
    return v2.AugMix(severity=max(1, round(3 * strength)), **common)


@dataclass(frozen=True)
class TrainingView:
    """The per-image transform of training.

    Args:
        plain: What evaluation sees: in epochs of strength 0.
        large: The view that is cropped from in every other.
        policy: One of ``POLICIES``.
        fill: For the policy, a number a channel.
        strength: Scalar in shared memory: worker processes outlive the epoch for which they were started.
    """

    plain: Transform
    large: Transform
    policy: str
    fill: tuple[int, ...]
    strength: Tensor

    def __call__(self, image: Image.Image) -> Tensor:
        """Returns ``(C, H, W)`` ``uint8``."""
        view, change = self.steps()
        return change(view(image)) if change else view(image)

    def steps(self) -> tuple[Transform, Change | None]:
        """The view of now, and the policy that follows it."""
        strength = float(self.strength)
        if strength == 0:
            return self.plain, None
        return self.large, None if self.policy == "none" else policy_at(self.policy, strength, self.fill)


def shared(value: float) -> Tensor:
    """A scalar that worker processes see change."""
    return torch.tensor(value).share_memory_()
