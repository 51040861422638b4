"""Evaluation's view: one resize, one centre crop, the same for every image size and mode."""

import numpy as np
import pytest
import torch
from PIL import Image

from ft.data.images import UnreadableImage, open_image, to_mode
from ft.data.training_view import TrainingView, shared
from ft.data.transforms import EvaluationTransform, in_two_steps, is_plain, normalize
from ft.input_spec import InputSpec


def spec(**changes) -> InputSpec:
    values = {"height": 32, "width": 32, "mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bicubic"}
    return InputSpec(**{**values, "crop_pct": 0.875, **changes})


@pytest.mark.parametrize("size", [(8, 8), (100, 40), (40, 100), (31, 33), (1, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_image_becomes_the_size_the_model_wants(size, mode):
    image = Image.new("I;16", size) if mode == "I;16" else Image.new("RGB", size).convert(mode)
    view = EvaluationTransform(spec())(image)
    assert view.shape == (3, 32, 32)
    assert view.dtype == torch.uint8


def test_it_is_what_torchvision_computes_for_the_same_steps():
    from torchvision.transforms import InterpolationMode, v2

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8))
    theirs = v2.Compose([v2.Resize(36, InterpolationMode.BICUBIC), v2.CenterCrop(32), v2.PILToTensor()])(image)
    assert torch.equal(EvaluationTransform(spec())(image), theirs)


def test_a_transform_says_what_of_it_can_be_kept():
    class Own(EvaluationTransform):
        def __call__(self, image):
            return super().__call__(image).flip(-1)

    plain, large = EvaluationTransform(spec()), EvaluationTransform(spec(height=40, width=40))
    view = TrainingView(plain, large, "trivial", (0, 0, 0), shared(1.0))
    first, change = in_two_steps(view)
    assert first is large
    assert change is not None
    view.strength.fill_(0)
    assert in_two_steps(view) == (plain, None)
    assert in_two_steps(plain) == (plain, None)
    assert is_plain(plain)
    own = Own(spec())
    assert in_two_steps(own) == (own, None)
    assert not is_plain(own)
    assert not is_plain(lambda image: plain(image))


def test_normalising_is_the_formula_and_leaves_floats_alone():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.allclose(normalize(images, spec()), (images / 255 - 0.5) / 0.25)
    floats = torch.randn(2, 3, 4, 4)
    assert normalize(floats, spec()) is floats


def test_sixteen_bits_keep_their_range_and_transparency_lands_on_white():
    deep = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert np.asarray(to_mode(deep, "L")).tolist() == [[0, 128, 255]]
    assert to_mode(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_photo_is_turned_upright(tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held on its side
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(str(tmp_path / "turned.jpg")).size == (10, 20)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "the file is empty"), (b"GIF89a", "."), (None, "no such file"), (b"\x89PNG\r\n\x1a\n", ".")],
)
def test_what_is_no_image_says_why(tmp_path, content, why):
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=why):
        open_image(str(path))
