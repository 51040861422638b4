"""Augmentation: recomputed by hand, image by image."""

import math
import multiprocessing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from ft.data.augment import (
    affine,
    blur,
    centre_crop,
    colour_matrix,
    crop_sides,
    erase,
    erasing_boxes,
    luma,
    recolour,
    warp,
)
from ft.data.randomness import seeded
from ft.data.training_view import TrainingView, density, policy_at, view_spec
from ft.data.transforms import EvaluationTransform
from ft.errors import UserError
from ft.input_spec import InputSpec
from plugins.augmentation import Augmentation, strength_at
from tests.conftest import assert_equal_weights, weights_of
from tests.plugins.conftest import CONF

SPEC = InputSpec(64, 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 0.875)
OFF: dict[str, Any] = {
    "hflip": 0.0, "vflip": 0.0, "crop": {"scale": None, "ratio": [0.8, 1.25]}, "zoom": [1.0, 1.0], "rotation": 0,
    "shear": 0, "translation": 0.0, "rescale": 0.0, "color_jitter": {"contrast": 0.0, "saturation": 0.0, "hue": 0.0},
}  # fmt: skip


def defaults() -> dict[str, Any]:
    loaded: Any = OmegaConf.to_container(OmegaConf.load(CONF / "plugins" / "augmentation.yaml"))
    return {key: value for key, value in loaded.items() if key != "_target_"}


def ready(spec: InputSpec = SPEC, strength: float = 1.0, **settings: Any) -> Augmentation:
    """Everything off but these, at a strength, without a run."""
    plugin = Augmentation(**{**defaults(), **OFF, **settings})
    plugin.spec = spec
    plugin._set(strength)
    return plugin


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, side: int = 64, channels: int = 3) -> Tensor:
    pixels = torch.randn(count, channels, side, side, generator=generator(1))
    return pixels.clamp(-1.7, 1.9).contiguous(memory_format=torch.channels_last)


def changed(plugin: Augmentation, images: Tensor, seed: int = 0) -> Tensor:
    return plugin.train_batch(images, torch.zeros(len(images)), generator(seed))[0]


def matrices(count: int, **given: Tensor) -> Tensor:
    neutral = {
        "flips": torch.ones(count, 2), "zoom": torch.ones(count), "shear": torch.zeros(count, 2),
        "rotation": torch.zeros(count), "translation": torch.zeros(count, 2), "window": torch.ones(count, 2),
        "centre": torch.zeros(count, 2),
    }  # fmt: skip
    return affine(**{**neutral, **given})


def colours(count: int, **given: float) -> Tensor:
    values = {"rescale": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, **given}
    return torch.tensor(list(values.values()))[:, None].expand(-1, count)


def photo(width: int = 160, height: int = 120) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


# Geometry


def test_the_identity_gives_the_centre_crop_bit_for_bit():
    images = batch(side=74)
    assert torch.equal(warp(images, matrices(8), height=64, width=64, padding="zeros"), images[:, :, 5:69, 5:69])


def test_sampling_at_the_identity_is_aligned_with_the_pixels():
    images = batch(side=72)
    almost = matrices(8, centre=torch.full((8, 2), 1e-4))
    sampled = warp(images, almost, height=64, width=64, padding="zeros")
    torch.testing.assert_close(sampled, centre_crop(images, 64, 64), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("setting", "dim"), [("hflip", 3), ("vflip", 2)])
def test_a_flip_alone_is_exact(setting, dim):
    images = batch()
    assert torch.equal(changed(ready(**{setting: 1.0}), images), images.flip(dim))


def test_about_half_of_the_images_are_flipped_and_nothing_else_happens_to_them():
    images = batch(200, side=64)
    out = changed(ready(hflip=0.5), images)
    flipped = [torch.equal(out[at], images[at].flip(2)) for at in range(200)]
    same = [torch.equal(out[at], images[at]) for at in range(200)]
    assert all(a != b for a, b in zip(flipped, same, strict=True))
    assert 70 < sum(flipped) < 130


def test_a_flip_in_the_sampling_equals_a_flip_of_the_tensor():
    images = batch(1)
    turned = {"rotation": torch.tensor([20.0])}
    plain = warp(images.flip(3), matrices(1, **turned), height=64, width=64, padding="border")
    fused = warp(images, matrices(1, flips=torch.tensor([[-1.0, 1.0]]), rotation=-turned["rotation"]), height=64,
                 width=64, padding="border").flip(3)  # fmt: skip
    torch.testing.assert_close(fused.flip(3), plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_are_those_of_rot90(quarter):
    images = batch(2)
    turned = warp(images, matrices(2, rotation=torch.full((2,), 90.0 * quarter)), height=64, width=64, padding="border")
    torch.testing.assert_close(turned, torch.rot90(images, quarter, (2, 3)), atol=1e-3, rtol=0)


def test_translation_moves_the_content_right_and_down():
    images = batch(1)
    moved = warp(images, matrices(1, translation=torch.tensor([[5.0, 3.0]])), height=64, width=64, padding="zeros")
    torch.testing.assert_close(moved[:, :, 3:, 5:], images[:, :, :-3, :-5], atol=1e-4, rtol=0)
    assert not moved[:, :, :2].any()


def test_shear_moves_rows_by_their_distance_from_the_middle():
    images = batch(1, side=65)
    lean = math.degrees(math.atan(0.5))
    leant = warp(images, matrices(1, shear=torch.tensor([[lean, 0.0]])), height=65, width=65, padding="zeros")
    torch.testing.assert_close(leant[:, :, 32], images[:, :, 32], atol=1e-4, rtol=0)
    torch.testing.assert_close(leant[:, :, 42, :-5], images[:, :, 42, 5:], atol=1e-4, rtol=0)


def test_a_crop_of_half_the_side_is_an_enlargement_of_that_part():
    images = batch(1)
    cropped = warp(
        images,
        matrices(1, window=torch.full((1, 2), 0.5), centre=torch.tensor([[-16.0, 16.0]])),
        height=64,
        width=64,
        padding="border",
    )
    part = F.interpolate(images[:, :, 32:, :32], (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(cropped[:, :, 1:-1, 1:-1], part[:, :, 1:-1, 1:-1], atol=1e-4, rtol=0)


def test_zoom_of_two_equals_the_middle_enlarged():
    images = batch(1)
    zoomed = warp(images, matrices(1, zoom=torch.tensor([2.0])), height=64, width=64, padding="border")
    part = F.interpolate(images[:, :, 16:48, 16:48], (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(zoomed[:, :, 1:-1, 1:-1], part[:, :, 1:-1, 1:-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_padding_is_what_numpy_calls_it(padding):
    images = batch(1)
    moved = warp(images, matrices(1, translation=torch.tensor([[4.0, 0.0]])), height=64, width=64, padding=padding)
    mode: Any = {"reflection": "symmetric", "border": "edge", "zeros": "constant"}[padding]
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (0, 0), (4, 0)), mode)[..., :64]
    torch.testing.assert_close(moved, torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_crops_keep_their_area_and_fit():
    drawn = torch.rand(500, 2, generator=generator())
    area, ratio = 0.1 + 0.9 * drawn[:, 0], (4 * drawn[:, 1] - 2).exp()
    sides = crop_sides(area, ratio)
    assert sides.max() <= 1
    torch.testing.assert_close(sides.prod(1), area, atol=1e-5, rtol=0)


def test_random_crops_lie_inside_the_view_and_in_their_range():
    plugin = ready(crop={"scale": [0.35, 1.0], "ratio": [0.75, 1.33]})
    drawn = torch.rand(500, 23, generator=generator()).unbind(1)
    found = plugin.ranges.matrices(drawn[:12], 1.0, size=(64, 64), view=(74, 74), density=1.0)
    sides = found[:, [0, 1], [0, 1]] * 64
    assert (sides / 2 + found[:, :, 2].abs()).max() <= 37.001
    shares = sides.prod(1) / 74**2
    assert 0.349 < shares.min() < 0.4
    assert 0.95 < shares.max() < 1.001


def test_strength_shrinks_ranges_and_multiplies_probabilities():
    plugin = ready(rotation=40, zoom=[0.5, 1.5], hflip=1.0)
    drawn = torch.rand(1000, 23, generator=generator()).unbind(1)
    found = plugin.ranges.matrices(drawn[:12], 0.25, size=(64, 64), view=(64, 64), density=1.0)
    scale = found[:, :, :2].double().det()
    assert 0.2 < (scale < 0).float().mean() < 0.3
    assert scale.abs().sqrt().min() > 1 / 1.125 - 1e-4
    assert scale.abs().sqrt().max() < 1 / 0.875 + 1e-4
    angle = torch.rad2deg(torch.atan2(found[:, 1, 0], found[:, 1, 1]))
    assert 9.5 < angle.abs().max() < 10.001


# Colour


def test_zero_jitter_is_the_identity():
    images = batch()
    mean, std = torch.tensor(SPEC.mean), torch.tensor(SPEC.std)
    matrix = colour_matrix(colours(8), grey=torch.full((8,), 0.4), channels=3)
    torch.testing.assert_close(matrix, torch.eye(3, 4).expand(8, 3, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(recolour(images, matrix, mean=mean, std=std), images, atol=1e-5, rtol=0)


def by_hand(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    mean, std = torch.tensor(SPEC.mean)[:, None, None], torch.tensor(SPEC.std)[:, None, None]
    return (change(images * std + mean).clamp(0, 1) - mean) / std


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ({"rescale": 1.4}, lambda x: x * 1.4),
        ({"saturation": 0.3}, lambda x: V.adjust_saturation(x, 0.3)),
        ({"saturation": 0.0}, lambda x: V.rgb_to_grayscale(x, num_output_channels=3)),
        ({"contrast": 1.5}, lambda x: V.adjust_contrast(x, 1.5)),
        ({"rescale": 0.8, "contrast": 0.5}, lambda x: V.adjust_contrast(x * 0.8, 0.5)),
    ],
)
def test_colours_are_those_of_torchvision(given, change):
    images = batch(4)
    mean, std = torch.tensor(SPEC.mean), torch.tensor(SPEC.std)
    matrix = colour_matrix(colours(4, **given), grey=luma(images, mean=mean, std=std), channels=3)
    # torchvision rounds its weights for brightness to four places.
    found = recolour(images, matrix, mean=mean, std=std)
    torch.testing.assert_close(found, by_hand(images, change), atol=3e-3, rtol=0)


def test_turning_the_hue_keeps_the_brightness_and_changes_the_colour():
    weights = torch.tensor([0.299, 0.587, 0.114])
    matrix = colour_matrix(colours(1, hue=0.2), grey=torch.zeros(1), channels=3)[0]
    torch.testing.assert_close(weights @ matrix[:, :3], weights, atol=1e-5, rtol=0)
    assert (matrix[:, :3] - torch.eye(3)).abs().max() > 0.5
    whole_turn = colour_matrix(colours(1, hue=1.0), grey=torch.zeros(1), channels=3)[0]
    torch.testing.assert_close(whole_turn, torch.eye(3, 4), atol=1e-5, rtol=0)


def test_grey_images_have_brightness_and_contrast_only():
    matrix = colour_matrix(colours(1, contrast=0.5, saturation=0.0, hue=0.3), grey=torch.tensor([0.6]), channels=1)
    torch.testing.assert_close(matrix, torch.tensor([[[0.5, 0.3]]]))


def test_alpha_is_left_alone():
    spec = InputSpec(64, 64, (0.5,) * 4, (0.5,) * 4, "bilinear", 1.0)
    images = batch(4, channels=4).clamp(-1, 1)
    out = changed(ready(spec, rescale=0.5, color_jitter={"contrast": 0.5, "saturation": 0.5, "hue": 0.2}), images)
    torch.testing.assert_close(out[:, 3], images[:, 3], atol=1e-5, rtol=0)
    assert (out[:, :3] - images[:, :3]).abs().max() > 0.1


def test_pixels_stay_between_black_and_white():
    images = batch()
    out = changed(ready(rescale=1.0, color_jitter={"contrast": 1.0, "saturation": 1.0, "hue": 0.5}), images)
    mean, std = torch.tensor(SPEC.mean)[:, None, None], torch.tensor(SPEC.std)[:, None, None]
    pixels = out * std + mean
    assert pixels.min() > -1e-5
    assert pixels.max() < 1 + 1e-5


# Blur and erasing


def test_blur_is_that_of_torchvision_and_leaves_the_others_alone():
    images = batch(3)
    out = blur(images, torch.tensor([0.0, 1.5, 0.7]))
    assert torch.equal(out[0], images[0])
    torch.testing.assert_close(out[1], V.gaussian_blur(images[1], [11, 11], [1.5, 1.5]), atol=1e-4, rtol=0)
    torch.testing.assert_close(out[2], V.gaussian_blur(images[2], [11, 11], [0.7, 0.7]), atol=1e-4, rtol=0)


def test_blur_of_tiny_images_is_refused_by_nobody():
    assert blur(batch(2, side=4), torch.tensor([5.0, 0.0])).shape == (2, 3, 4, 4)


def test_erased_areas_are_in_their_range_and_set_to_the_mean():
    images = torch.ones(300, 3, 64, 64)
    out = changed(ready(erasing={"prob": 0.5, "area": [0.1, 0.3]}), images)
    share = (out == 0).float().mean((1, 2, 3))
    erased = share > 0
    assert 110 < erased.sum() < 190
    assert 0.09 < share[erased].min() < 0.13
    assert 0.27 < share.max() < 0.31
    assert torch.equal(out.unique(), torch.tensor([0.0, 1.0]))


def test_the_erased_rectangle_is_the_one_that_was_drawn():
    boxes = erasing_boxes(
        torch.tensor([0.25, 0.0]), torch.ones(2), torch.tensor([[0.0, 1.0], [0.5, 0.5]]), height=8, width=8
    )
    assert boxes.tolist() == [[0, 4, 4, 8], [0, 0, 0, 0]]
    out = erase(torch.ones(2, 1, 8, 8), boxes)
    assert not out[0, 0, 4:, :4].any()
    assert out[0].sum() == 48
    assert out[1].all()


# The batch as a whole


def test_images_of_a_batch_differ_and_the_generator_decides():
    plugin = Augmentation(**defaults())
    plugin.spec, plugin.current = SPEC, 1.0
    images = batch(1, side=74).expand(6, -1, -1, -1)
    out = changed(plugin, images)
    assert len({float(each.sum()) for each in out}) == 6
    assert torch.equal(out, changed(plugin, images))
    assert not torch.equal(out, changed(plugin, images, seed=1))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out.shape == (6, 3, 64, 64)


def test_the_global_generator_is_left_alone_and_the_batch_is_not_written_to():
    plugin = ready(rotation=30, rescale=0.3, hflip=0.5, erasing={"prob": 0.5, "area": [0.1, 0.2]})
    images, state = batch(), torch.get_rng_state()
    before = images.clone()
    changed(plugin, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)


def test_half_precision_around_it_changes_no_coordinate():
    plugin, images = ready(rotation=30, crop={"scale": [0.5, 1.0], "ratio": [0.8, 1.25]}, rescale=0.2), batch()
    expected = changed(plugin, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(changed(plugin, images), expected)


def test_one_setting_does_not_change_what_another_draws():
    images = batch()
    assert torch.equal(
        changed(ready(hflip=0.5, erasing={"prob": 0.3, "area": [0.1, 0.2]}), images) == 0,
        changed(ready(hflip=0.5, erasing={"prob": 0.3, "area": [0.1, 0.2]}, rescale=0.1), images) == 0,
    )


# The view


def test_views_of_models_that_take_no_squares_keep_their_shape():
    spec = InputSpec(48, 96, SPEC.mean, SPEC.std, "bicubic", 0.8)
    view = view_spec(spec, 1.2)
    assert (view.height, view.width) == (58, 116)
    plugin = ready(spec, crop={"scale": [0.5, 1.0], "ratio": [0.8, 1.25]})
    assert plugin.train_transform(EvaluationTransform(spec))(photo()).shape == (3, 54, 110)
    assert changed(plugin, torch.randn(2, 3, 54, 110)).shape == (2, 3, 48, 96)


@pytest.mark.parametrize("crop_pct", [0.8, 0.875])
@pytest.mark.parametrize("shape", [(160, 120), (97, 301), (64, 64)])
def test_the_middle_of_the_view_is_what_evaluation_shows(crop_pct, shape):
    spec = InputSpec(56, 56, SPEC.mean, SPEC.std, "bicubic", crop_pct)
    view = view_spec(spec, 1.14)
    assert (view.height, view.width) == (64, 64)
    assert density(spec, view) == 1
    large = EvaluationTransform(view)(photo(*shape))
    assert torch.equal(large[:, 4:-4, 4:-4], EvaluationTransform(spec)(photo(*shape)))


def test_a_view_without_pixels_to_spare_shows_as_much_in_more_pixels():
    spec = InputSpec(56, 56, SPEC.mean, SPEC.std, "bicubic", 1.0)
    view = view_spec(spec, 1.5)
    assert (view.height, view.crop_pct) == (84, 1.0)
    assert density(spec, view) == 1.5
    plugin = ready(spec, rotation=1e-4)
    plugin.view = view
    gradient = torch.linspace(-1, 1, 84)[None, None, None].expand(1, 3, 84, 84)
    assert changed(plugin, gradient)[0, 0, 0, [0, -1]].abs().min() > 0.98


def test_without_augmentation_the_worker_renders_what_evaluation_sees():
    view = Augmentation(**defaults()).train_transform(EvaluationTransform(SPEC))
    assert isinstance(view, TrainingView)
    assert torch.equal(view(photo()), EvaluationTransform(SPEC)(photo()))
    view.strength.fill_(1.0)
    assert view(photo()).shape == (3, 72, 72)


def test_flips_alone_need_no_larger_view():
    plain = EvaluationTransform(SPEC)
    assert ready(hflip=0.5, vflip=0.5, rescale=0.2).train_transform(plain) is plain


def test_strength_zero_leaves_the_transform_and_the_batch_as_they_are():
    plain, images = EvaluationTransform(SPEC), batch()
    plugin = Augmentation(**{**defaults(), "strength": 0.0, "policy": "rand"})
    plugin.spec = SPEC
    assert plugin.train_transform(plain) is plain
    assert changed(plugin, images) is images


def worker(view: TrainingView, orders: Any, answers: Any) -> None:
    while orders.get():
        answers.put(tuple(view(photo()).shape))


@pytest.mark.full
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_see_the_strength_of_the_epoch(method):
    plugin = Augmentation(**defaults())
    view = plugin.train_transform(EvaluationTransform(SPEC))
    context = multiprocessing.get_context(method)
    orders, answers = context.Queue(), context.Queue()
    process = context.Process(target=worker, args=(view, orders, answers), daemon=True)
    process.start()
    try:
        for strength, side in ((0.0, 64), (0.7, 72), (0.0, 64)):
            plugin._set(strength)
            orders.put(True)
            assert answers.get(timeout=120) == (3, side, side)
    finally:
        orders.put(False)
        process.join(20)


# Policies


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["trivial", "rand", "augmix"])
def test_policies_keep_type_and_shape_and_draw_from_the_images_own_seed(name, channels):
    pixels = torch.randint(0, 256, (channels, 40, 48), dtype=torch.uint8, generator=generator())
    policy = policy_at(name, 1.0, (124,) * channels)
    seen = []
    for seed in (0, 1, 2, 0):
        with seeded("test", seed):
            seen.append(policy(pixels))
    assert all(each.dtype == torch.uint8 and each.shape == pixels.shape for each in seen)
    assert torch.equal(seen[0], seen[3])
    assert len({int(each.sum()) for each in seen}) > 1


def test_strength_reaches_the_policies():
    strong, weak = (policy_at("rand", strength, (0, 0, 0)) for strength in (1.0, 0.3))
    assert (strong.magnitude, weak.magnitude) == (9, 3)
    assert (policy_at("augmix", 1.0, (0,)).severity, policy_at("augmix", 0.1, (0,)).severity) == (3, 1)
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=generator())
    with seeded("test"):
        same = sum(torch.equal(policy_at("trivial", 0.2, (0, 0, 0))(pixels), pixels) for _ in range(200))
    assert same > 140


# When


def test_the_ramp_goes_from_zero_to_strength_and_ends_before_the_last_epochs():
    values = [strength_at(epoch, strength=0.8, ramp="linear", num_epochs=7, off_last=2) for epoch in range(7)]
    assert values == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.0, 0.0])
    assert strength_at(0, strength=0.8, ramp="linear", num_epochs=1, off_last=0) == 0.8
    values = [strength_at(epoch, strength=0.8, ramp="constant", num_epochs=4, off_last=1) for epoch in range(4)]
    assert values == [0.8, 0.8, 0.8, 0.0]
    assert strength_at(10**6, strength=0.8, ramp="constant", num_epochs=None, off_last=0) == 0.8


@pytest.mark.parametrize(("opened", "expected"), [(("head",), 0.2), (("stem", "stage1", "head"), 0.8)])
def test_it_is_weaker_while_a_stage_of_the_backbone_is_frozen(opened, expected):
    plugin = Augmentation(**{**defaults(), "strength": 0.8, "frozen_strength": 0.25})
    module: Any = SimpleNamespace(
        phase=SimpleNamespace(stages=frozenset(opened)), stage_names=("stem", "stage1", "head")
    )
    plugin.begin_epoch(0, module)
    assert plugin.current == pytest.approx(expected)
    assert float(plugin.in_workers) == pytest.approx(expected)


def test_a_run_follows_the_ramp_and_evaluation_is_plain(train_run):
    run = train_run(
        "plugins=[augmentation]", "plugins.augmentation.ramp=linear", "plugins.augmentation.off_last=1",
        "trainer.max_epochs=4", "plugins.augmentation.preview=true", "data.num_workers=1",
    )  # fmt: skip
    rows = run.metrics.rows
    strengths = [rows[epoch]["plugins/augmentation/strength"] for epoch in sorted(rows)]
    assert strengths == pytest.approx([0.0, 0.5, 1.0, 0.0])
    assert isinstance(run.loaders.eval_transform, EvaluationTransform)
    with Image.open(run.folder.path / "augmentation.png") as picture:
        assert picture.size == (8 * 34 + 2, 4 * 34 + 2)


def test_the_preview_disturbs_nothing(train_run):
    runs = [train_run("plugins=[augmentation]", f"plugins.augmentation.preview={on}") for on in ("false", "true")]
    assert_equal_weights(weights_of(runs[0]), weights_of(runs[1]))


# Mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 1.5}, r"plugins.augmentation.strength must be in \[0, 1\], got 1.5"),
        ({"frozen_strength": -1}, "frozen_strength must be in"),
        ({"hflip": 2}, "hflip must be in"),
        ({"vflip": "yes"}, "vflip must be in .* got 'yes'"),
        ({"rotation": 200}, r"rotation must be in \[0, 180\]"),
        ({"shear": 80}, r"shear must be in \[0, 60\]"),
        ({"translation": -0.1}, "translation must be in"),
        ({"rescale": 1.1}, "rescale must be in"),
        ({"presize": 0.9}, r"presize must be in \[1, 2\]"),
        ({"zoom": [1.2, 0.8]}, "zoom must be two numbers in order"),
        ({"zoom": 0.1}, "zoom must be two numbers"),
        ({"crop": {"scale": [0.0, 1.0], "ratio": [1, 1]}}, "crop.scale must be two numbers in order, above 0"),
        ({"crop": {"scale": [0.5, 1.5], "ratio": [1, 1]}}, "crop.scale .* at most 1"),
        ({"crop": {"scale": None, "ratio": [2]}}, "crop.ratio must be two numbers"),
        ({"crop": None}, "crop must be a group of ratio, scale"),
        ({"color_jitter": {"contrast": 0, "saturation": 2, "hue": 0}}, "color_jitter.saturation must be in"),
        ({"color_jitter": {"contrast": 0, "saturation": 0, "hue": 0.7}}, r"color_jitter.hue must be in \[0, 0.5\]"),
        ({"color_jitter": {"contrast": 0, "brightness": 0}}, "color_jitter must be a group of contrast, hue"),
        ({"blur": {"prob": 2, "sigma": [1, 2]}}, "blur.prob must be in"),
        ({"blur": {"prob": 1, "sigma": [0, 2]}}, "blur.sigma must be two numbers"),
        ({"erasing": {"prob": 1, "area": [0.1, 0.95]}}, "erasing.area .* at most 0.9"),
        ({"erasing": {"prob": -1, "area": [0.1, 0.2]}}, "erasing.prob must be in"),
        ({"padding": "reflect"}, "padding=reflect is not a choice: .* Did you mean reflection"),
        ({"policy": "trivail"}, "policy=trivail is not a choice: .* Did you mean trivial"),
        ({"ramp": "cosine"}, "ramp=cosine is not a choice"),
        ({"off_last": -1}, "off_last must be 0 or more epochs, got -1"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Augmentation(**{**defaults(), **changes})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["plugins.augmentation.off_last=2"], "off_last must be below 2, all epochs, got 2"),
        (
            ["plugins.augmentation.ramp=linear", "trainer.max_epochs=-1", "trainer.max_steps=3"],
            "trainer.max_epochs must say how long the run is for plugins.augmentation.ramp, got -1",
        ),
        (["plugins.augmentation.policy=rand", "model.in_chans=4"], "policy=rand takes no images with alpha"),
    ],
)
def test_what_does_not_go_with_the_run_is_refused(build_run, overrides, message):
    with pytest.raises(UserError, match=message):
        build_run("plugins=[augmentation]", *overrides)
