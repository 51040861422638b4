"""Progressive resizing: sides by hand, and models that take one size only."""

import pytest
import torch
from lightning.pytorch import Callback

from ft.errors import UserError
from ft.fit import fit
from plugins.progressive_resize import ProgressiveResize, require_size, shrink, side

ON = ("plugins=[progressive_resize]", "plugins.progressive_resize.multiple_of=8", "data.suggested.img_size=32")


def sides(**changes):
    settings = {"full": 224, "start": 0.5, "over": 1.0, "num_epochs": 5, "multiple_of": 16, **changes}
    return [side(epoch, **settings) for epoch in range(settings["num_epochs"])]


def test_the_side_grows_to_full_size_in_the_last_epoch():
    assert sides() == [112, 144, 176, 192, 224]


def test_it_has_grown_after_its_share_of_the_epochs():
    assert sides(over=0.5) == [112, 176, 224, 224, 224]
    assert sides(over=0.5, num_epochs=1) == [112]


def test_sides_are_multiples_and_full_size_is_exact():
    assert sides(full=230, multiple_of=32, num_epochs=3) == [128, 160, 230]
    assert sides(full=30, start=0.1, multiple_of=16, num_epochs=3) == [16, 16, 30]
    assert sides(full=32, multiple_of=64, num_epochs=2) == [32, 32]


def test_start_one_is_full_size_throughout():
    assert sides(start=1.0) == [224] * 5


def test_shrinking_keeps_flat_images_flat_and_averages_the_others():
    images = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert shrink(images, height=4, width=6).shape == (2, 3, 4, 6)
    flat = torch.full((1, 1, 8, 8), 0.7)
    torch.testing.assert_close(shrink(flat, height=4, width=4), flat[:, :, :4, :4])
    stripes = torch.tensor([1.0, -1.0]).repeat(16).expand(1, 1, 32, 32)
    assert shrink(stripes, height=16, width=16)[..., 2:-2, 2:-2].abs().max() < 0.3


class Sizes(Callback):
    """Writes down the size of every batch that the model sees."""

    def __init__(self, model) -> None:
        self.trained: list[tuple[int, ...]] = []
        self.evaluated: set[tuple[int, ...]] = set()
        model.register_forward_pre_hook(self.see)

    def see(self, model, inputs):
        shape = tuple(inputs[0].shape[2:])
        if model.training:
            self.trained.append(shape)
        else:
            self.evaluated.add(shape)


def test_training_images_grow_and_evaluation_has_full_size(build_run):
    run = build_run(*ON, "trainer.max_epochs=3", "trainer.limit_train_batches=1", "plugins.progressive_resize.over=1")
    seen = Sizes(run.module.model)
    fit(run, started=0.0)
    assert seen.trained == [(16, 16), (24, 24), (32, 32)]
    assert seen.evaluated == {(32, 32)}
    assert [run.metrics.rows[epoch]["plugins/progressive_resize/side"] for epoch in range(3)] == [16, 24, 32]


def test_a_model_with_one_input_size_is_refused_with_what_to_change(build_run):
    vit = ("model.name=test_vit", "plugins.progressive_resize.multiple_of=16")
    # timm's own tiny ViT takes every size, unlike the ones people use.
    message = r"16 x 16 pixels, which VisionTransformer .*: set \+model\.kwargs\.dynamic_img_size=true"
    with pytest.raises(UserError, match=message):
        build_run("plugins=[progressive_resize]", *vit, "+model.kwargs.dynamic_img_size=false")
    build_run("plugins=[progressive_resize]", *vit, "+model.kwargs.dynamic_img_size=true")


def test_trying_a_size_leaves_the_model_as_it_was(build_run):
    model = build_run().module.model
    model.backbone.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    require_size(model, 16, 16)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_it_comes_after_augmentation(build_run):
    with pytest.raises(UserError, match="put progressive_resize after augmentation"):
        build_run("plugins=[progressive_resize,augmentation]", *ON[1:])


def test_it_shrinks_what_augmentation_has_cropped(build_run):
    run = build_run("plugins=[augmentation,progressive_resize]", *ON[1:], "trainer.limit_train_batches=1")
    seen = Sizes(run.module.model)
    fit(run, started=0.0)
    assert seen.trained == [(16, 16), (32, 32)]


def test_the_length_of_the_run_has_to_be_known(build_run):
    with pytest.raises(UserError, match=r"trainer\.max_epochs must say how long the run is"):
        build_run(*ON, "trainer.max_epochs=-1", "trainer.max_steps=3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 0}, r"start must be in \(0, 1\], got 0"),
        ({"over": 1.5}, r"over must be in \(0, 1\]"),
        ({"multiple_of": 0}, "multiple_of must be at least 1"),
        ({"multiple_of": 1.5}, "multiple_of must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ProgressiveResize(**{"start": 0.5, "over": 0.5, "multiple_of": 16, **changes})
