"""Test-time augmentation: which views, and what is made of them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from ft.data.images import UnreadableImage
from ft.data.transforms import EvaluationTransform
from ft.errors import UserError
from ft.inference.tta import Views, over_views
from ft.input_spec import InputSpec

SPEC = InputSpec(32, 32, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.8)
TRANSFORM = EvaluationTransform(SPEC)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("tta", ["none", "flip", "ten_crop"])
@pytest.mark.parametrize("size", [(50, 80), (81, 47), (32, 32), (9, 200)])
def test_the_first_view_is_the_one_of_validation(tta, size):
    assert torch.equal(Views(TRANSFORM, tta)(picture(*size))[0], TRANSFORM(picture(*size)))


def test_ten_crops_are_those_of_torchvision_on_the_whole_resized_image():
    image = picture(60, 80)
    resized = F.pil_to_tensor(TRANSFORM.resized(image))
    assert min(resized.shape[1:]) == 40
    ours = Views(TRANSFORM, "ten_crop")(image)
    ours = torch.cat([ours, ours.flip(-1)])
    theirs = torch.stack(list(F.ten_crop(resized, [32, 32])))
    assert len(ours.unique(dim=0)) == 10
    assert torch.equal(ours.unique(dim=0), theirs.unique(dim=0))


@pytest.mark.parametrize(("tta", "count"), [("none", 1), ("flip", 2), ("ten_crop", 10)])
def test_what_is_told_is_the_average_over_all_views(tta, count):
    views = Views(TRANSFORM, tta)
    stacked = torch.stack([views(picture(60, 80)), views(picture(80, 40))])
    seen: list[torch.Tensor] = []

    def compute(crops: torch.Tensor) -> torch.Tensor:
        seen.append(crops)
        # The left half alone: a mirrored view has another answer.
        return crops[..., :16].float().mean((2, 3))

    told = over_views(compute, stacked, mirrored=views.mirrored)
    assert sum(map(len, seen)) == 2 * count
    for row in range(2):
        every = stacked[row] if tta == "none" else torch.cat([stacked[row], stacked[row].flip(-1)])
        assert len(every) == count
        assert torch.allclose(told[row], compute(every).mean(0), atol=1e-3)


def test_a_mirrored_image_is_told_the_same_with_flip_and_not_without():
    image, mirrored = picture(40, 40), F.horizontal_flip(picture(40, 40))

    def left(crops: torch.Tensor) -> torch.Tensor:
        return crops[..., :16].float().mean((2, 3))

    for tta, same in (("none", False), ("flip", True)):
        views = Views(TRANSFORM, tta)
        one, other = (over_views(left, views(each)[None], mirrored=views.mirrored) for each in (image, mirrored))
        assert torch.allclose(one, other, atol=1e-3) is same


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(UserError, match=r"tta=flp is not a choice: .* Did you mean flip\?"):
        Views(TRANSFORM, "flp")


def test_a_long_and_thin_image_is_refused_before_it_is_resized():
    with pytest.raises(UnreadableImage, match="1 x 100000 pixels are too long and thin: resized they are 40 x 4000000"):
        TRANSFORM(Image.new("L", (1, 100_000)))
    assert TRANSFORM(Image.new("L", (1, 1000))).shape == (3, 32, 32)
