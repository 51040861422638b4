"""Several views of an image, and the average of what is told of them.

    none       [centre]                                                       1 view
    flip       [centre], mirrored too                                         2 views
    ten_crop   [four corners, centre] of the whole resized image, mirrored   10 views

Probabilities are averaged, not logits: Krizhevsky et al. 2012 (https://papers.nips.cc/paper/4824), section 4.1, with
the same ten crops, torchvision's ``TenCrop``. Of numbers their values are averaged. One tf_efficientnet_lite0, not
calibrated, on the 431 test images of trashnet:

                                      none     flip     ten_crop
    accuracy                          91.65    91.65    91.88      one image more
    cross entropy, of probabilities   0.3231   0.3101   0.2849
    cross entropy, of logits                   0.3194   0.3195     the same accuracies
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ft.data.transforms import EvaluationTransform
from ft.errors import one_of

TTA = NONE, FLIP, TEN_CROP = "none", "flip", "ten_crop"


@dataclass(frozen=True)
class Views:
    """Pillow image to ``(V, C, H, W)`` ``uint8`` crops, which ``over_views`` may mirror.

    Args:
        transform: Of the predictor. Its own view is the first one.
        tta: ``none``, ``flip`` or ``ten_crop``.
    """

    transform: EvaluationTransform
    tta: str = NONE

    def __post_init__(self) -> None:
        one_of(self.tta, TTA, "tta")

    @property
    def count(self) -> int:
        """``V``, without the mirrored ones."""
        return 5 if self.tta == TEN_CROP else 1

    @property
    def mirrored(self) -> bool:
        return self.tta != NONE

    def __call__(self, image: Image.Image) -> Tensor:
        crop = self.transform
        resized = crop.resized(image)
        right, bottom = resized.width - crop.spec.width, resized.height - crop.spec.height
        places = [(right // 2, bottom // 2)]
        if self.tta == TEN_CROP:
            places += [(0, 0), (right, 0), (0, bottom), (right, bottom)]
        return torch.stack([crop.crop(resized, left, top) for left, top in places])


def over_views(compute: Callable[[Tensor], Tensor], views: Tensor, *, mirrored: bool) -> Tensor:
    """The average over an image's views: ``(B, K)``.

    Args:
        compute: ``(N, C, H, W)`` ``uint8`` to ``(N, K)`` probabilities, numbers or features.
        views: ``(B, V, C, H, W)`` ``uint8``.
        mirrored: Whether each view's mirror image counts as well.
    """
    flat = views.flatten(0, 1)
    found = compute(flat)
    if mirrored:
        found = (found + compute(flat.flip(-1))) / 2
    return found.unflatten(0, views.shape[:2]).mean(1) if views.shape[1] > 1 else found
