"""A random part of the image, perhaps mirrored: the plainest augmentation, for stored views."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ft.data.training_view import view_spec
from ft.data.transforms import RESAMPLING, Change, EvaluationTransform, Transform

RATIO = (3 / 4, 4 / 3)
PRESIZE = 1.14  # of the view that is cropped from, as plugins.augmentation has it


@dataclass(frozen=True)
class RandomCrop:
    """Crops a random rectangle of a view somewhat larger than the model's input, and resizes it to that.

    Draws from torch's global generator.

    Args:
        plain: What evaluation sees.
        scale: Range of the crop's share of the area, in ``(0, 1]``.
        flip: Probability of mirroring left and right.

    Source: Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, section 6.
    """

    plain: EvaluationTransform
    scale: tuple[float, float]
    flip: float

    @cached_property
    def large(self) -> EvaluationTransform:
        return EvaluationTransform(view_spec(self.plain.spec, PRESIZE))

    def __call__(self, image: Image.Image) -> Tensor:
        """Returns ``(C, H, W)`` ``uint8``."""
        return self.change(self.large(image))

    def steps(self) -> tuple[Transform, Change]:
        """The large view, which can be kept, and the crop."""
        return self.large, self.change

    def change(self, view: Tensor) -> Tensor:
        """From the large view, ``(C, H', W')`` ``uint8``, to what the model sees."""
        spec = self.plain.spec
        drawn = torch.rand(5).tolist()
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * drawn[0]
        ratio = math.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * drawn[1])
        width = view.shape[2] * min(1.0, math.sqrt(area * ratio))
        height = view.shape[1] * min(1.0, math.sqrt(area / ratio))
        left, top = (view.shape[2] - width) * drawn[2], (view.shape[1] - height) * drawn[3]
        image = F.to_pil_image(view).resize(
            (spec.width, spec.height), RESAMPLING[spec.interpolation], box=(left, top, left + width, top + height)
        )
        pixels = F.pil_to_tensor(image)
        return pixels.flip(2) if drawn[4] < self.flip else pixels
