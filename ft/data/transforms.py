"""From a Pillow image to the model's pixels. Evaluation is one resize, one crop, and nothing else."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ft.data.images import MAX_PIXELS, UnreadableImage, to_mode
from ft.errors import one_of
from ft.input_spec import InputSpec

Transform = Callable[[Image.Image], Tensor]
Change = Callable[[Tensor], Tensor]

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class EvaluationTransform:
    """Resizes the shorter side to ``size / crop_pct`` with Pillow, then crops the centre.

    The same for validation, test and prediction, and for training as long as no plugin augments.
    """

    spec: InputSpec

    def __post_init__(self) -> None:
        one_of(self.spec.interpolation, RESAMPLING, "model.interpolation")

    def __call__(self, image: Image.Image) -> Tensor:
        """Returns ``(C, H, W)`` ``uint8``."""
        image = self.resized(image)
        return self.crop(image, (image.width - self.spec.width) // 2, (image.height - self.spec.height) // 2)

    def resized(self, image: Image.Image) -> Image.Image:
        """The whole image, at the size that it is cropped from.

        Raises:
            UnreadableImage: It is so long and thin that this would be more than ``MAX_PIXELS``.
        """
        spec = self.spec
        image = to_mode(image, spec.pillow_mode)
        scale = max(
            math.floor(spec.height / spec.crop_pct) / image.height, math.floor(spec.width / spec.crop_pct) / image.width
        )
        size = (max(spec.width, round(image.width * scale)), max(spec.height, round(image.height * scale)))
        if size[0] * size[1] > MAX_PIXELS:
            raise UnreadableImage(
                f"{image.width} x {image.height} pixels are too long and thin: resized they are {size[0]} x {size[1]}"
            )
        return image if size == image.size else image.resize(size, RESAMPLING[spec.interpolation])

    def crop(self, resized: Image.Image, left: int, top: int) -> Tensor:
        """A part of a resized image, as large as the model's input: ``(C, H, W)`` ``uint8``."""
        return F.pil_to_tensor(resized.crop((left, top, left + self.spec.width, top + self.spec.height)))


def in_two_steps(transform: Transform) -> tuple[Transform, Change | None]:
    """What a transform makes of an image, and what it then does with those pixels; ``None``: nothing.

    Pixels of the first step can be kept from epoch to epoch where it is an ``EvaluationTransform``. A transform of a
    plugin that begins with one has a method ``steps() -> (first, second)``, which is asked anew for every image.
    """
    steps = getattr(transform, "steps", None)
    return steps() if steps else (transform, None)


def is_plain(transform: Transform) -> TypeGuard[EvaluationTransform]:
    """Whether its spec says all about it; a subclass may do anything."""
    return type(transform) is EvaluationTransform


def normalize(images: Tensor, spec: InputSpec, *, channels_last: bool = True) -> Tensor:
    """``uint8`` images to what the backbone was trained on; on the device, where it costs a quarter of the transfer.

    Args:
        images: ``(B, C, H, W)`` ``uint8``; floats are returned as they are.
        spec: Gives mean and std.
        channels_last: How they lie in memory.
    """
    if images.dtype != torch.uint8:
        return images
    mean = torch.tensor(spec.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(1, -1, 1, 1)
    # Channels last in memory: convolutions, depthwise ones above all, then train up to 1.7 times as fast on CPUs too.
    images = images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return images.float().div_(255).sub_(mean).div_(std)
