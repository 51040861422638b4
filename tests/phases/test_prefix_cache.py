"""Training on stored activations is training: the same numbers, found again, noticed when damaged, never in the way."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from ft.cache.activations import key_of, read, weights_hash
from ft.cache.codec import decode, encode
from ft.cache.folder import cache_dir, entries
from ft.cache.writer import Writer
from ft.fit import fit
from ft.phases.stored_views import StoredViews, drawn_views
from tests.conftest import Killed, StopIn, assert_equal_weights, weights_of

LAST = ("model.open=[stage4,head]", "trainer.max_epochs=2")
AUTO = (
    "recipe=auto", "trainer.max_epochs=null", "recipe.min_epochs=2", "recipe.max_epochs=2", "recipe.min_gain=-1",
    "recipe.phases=[{depth: 0.1, steps: 9, views: 1, rate: 1.0}, {depth: 0.3, steps: 9, views: 1, rate: 0.5}]",
)  # fmt: skip


@pytest.fixture(autouse=True)
def cold(tmp_path, monkeypatch) -> Path:
    """A cache folder of its own for each test."""
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Losses(Callback):
    """Writes down the loss of every step, and whether images were looked at."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.boundaries: set[str | None] = set()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        assert outputs is not None
        self.values.append(float(outputs["loss"]))
        self.boundaries.add(batch.boundary)


def trained(build_run, *overrides: str):
    run = build_run(*overrides)
    losses = Losses()
    run.trainer.callbacks.append(losses)
    fit(run, started=0.0)
    return run, losses


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_fifty_steps_on_stored_activations_have_the_losses_of_fifty_on_images(build_run, tmp_path, name):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {key: tensor.contiguous() for key, tensor in timm.create_model(name, num_classes=0).state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    stages = "[stage4,head]" if name == "test_resnet" else "[stage2,head]"
    options = (
        f"model.name={name}", f"model.weights='{tmp_path}/w.safetensors'", "model.img_size=32", f"model.open={stages}",
        "optimizer=sgd", "optimizer.lr=0.01", "data.num_images=80", "data.batch_size=8", "trainer.max_epochs=5",
        "test=false",
    )  # fmt: skip
    _, stored = trained(build_run, *options)
    _, plain = trained(build_run, *options, "cache=off")
    assert stored.boundaries == {stages[1:].split(",")[0]}
    assert plain.boundaries == {None}
    assert len(plain.values) == 50
    assert stored.values == pytest.approx(plain.values, rel=1e-5)
    assert len(set(plain.values)) == 50


def test_a_second_run_finds_what_the_first_has_computed(build_run, pretrained, capsys, monkeypatch):
    first, one = trained(build_run, *LAST, pretrained)
    assert "train, plain view: 32 images through the frozen stages once" in capsys.readouterr().out
    monkeypatch.setattr("ft.phases.frozen_pass._between", None)  # nothing is computed
    second, other = trained(build_run, *LAST, pretrained)
    assert "through the frozen stages" not in capsys.readouterr().out
    assert one.values == other.values
    assert_equal_weights(weights_of(first), weights_of(second))


def test_validation_on_stored_activations_is_validation_on_images(build_run, pretrained):
    run, _ = trained(build_run, *LAST, pretrained)
    whole = run.module.score(run.loaders.evaluation_loader("val"))
    last = run.metrics.rows[max(run.metrics.rows)]
    assert last["val/loss"] == pytest.approx(whole["val/loss"], rel=1e-5)
    assert last["val/acc"] == whole["val/acc"]


@pytest.mark.parametrize("batch", [pytest.param(None, marks=pytest.mark.full), 1])
def test_an_interrupted_run_ends_where_the_whole_one_does(build_run, train_run, resume_run, pretrained, cold, batch):
    options = (*AUTO, pretrained, "model.head.drop_rate=0.2")
    whole = train_run(*options)
    assert [phase.epochs for phase in whole.module.recipe.phases] == [2, 2]
    for epoch in (1, 2):
        cut = build_run(*options)
        cut.trainer.callbacks.append(StopIn(epoch=epoch, batch=batch))
        with pytest.raises((Killed, KeyboardInterrupt)):
            fit(cut, started=0.0)
        shutil.rmtree(cold)  # what was stored is gone, and is computed again
        assert_equal_weights(weights_of(whole), weights_of(resume_run(cut)))


def test_one_pass_over_the_images_stores_what_later_phases_need(build_run, pretrained, capsys):
    run, losses = trained(build_run, *AUTO, pretrained, "recipe.phases.1.views=2")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cache: train")]
    assert len(said) == 2, said
    assert "plain view" in said[0]
    assert "before stage3, stage4, head" in said[0]
    assert "view 1" in said[1]
    assert losses.boundaries == {"stage4", "stage3"}
    assert {entry.about["about"]["boundary"] for entry in entries("activations")} == {"stage3", "stage4", "head"}
    assert -1 in run.module.scores


def test_a_model_is_on_disk_before_the_first_step(build_run, pretrained):
    run = build_run(*AUTO, pretrained)

    class Look(Callback):
        found = False

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            Look.found = Look.found or (run.folder.best.is_dir() and trainer.global_step == 0)

    run.trainer.callbacks.append(Look())
    fit(run, started=0.0)
    assert Look.found


def test_linear_computes_the_head_and_takes_no_step(build_run, pretrained):
    run, losses = trained(build_run, "recipe=linear", "trainer.max_epochs=null", pretrained)
    assert losses.values == []
    assert run.folder.best.is_dir()
    assert run.folder.last.is_dir()
    assert run.checkpoints.best == run.module.scores[-1].metric


@pytest.mark.full
@pytest.mark.parametrize("damage", ["flipped", "short", "missing", "about", "half"])
def test_a_damaged_entry_is_computed_again(build_run, pretrained, capsys, damage):
    _, one = trained(build_run, *LAST, pretrained)
    for entry in entries("activations"):
        file = entry.path / "0.0.bin"
        if damage == "flipped":
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        elif damage == "short":
            file.write_bytes(file.read_bytes()[:-1])
        elif damage == "missing":
            file.unlink()
        elif damage == "about":
            about = json.loads((entry.path / "about.json").read_text())
            about["row"][:2] = about["row"][1::-1]
            (entry.path / "about.json").write_text(json.dumps(about))
        else:
            (entry.path / "about.json").write_text('{"parts": [')
    capsys.readouterr()
    _, other = trained(build_run, *LAST, pretrained)
    assert "through the frozen stages once" in capsys.readouterr().out
    assert one.values == other.values


def test_a_full_disk_keeps_them_in_memory(build_run, pretrained, capsys, monkeypatch):
    _, one = trained(build_run, *LAST, pretrained)
    shutil.rmtree(cache_dir())

    def full(self, encoded):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Writer, "_write", full)
    _, other = trained(build_run, *LAST, pretrained)
    out = capsys.readouterr().out
    assert "cannot be written to" in out
    assert "No space left on device; they are kept in memory" in out
    assert one.values == other.values
    assert entries("activations") == []


def test_without_room_in_memory_or_on_disk_the_run_goes_on_without(build_run, pretrained, capsys):
    _, one = trained(build_run, *LAST, pretrained)
    shutil.rmtree(cache_dir())
    capsys.readouterr()
    _, other = trained(build_run, *LAST, pretrained, "cache.memory=0", "cache.disk=0")
    assert "raise cache.memory or cache.disk" in capsys.readouterr().out
    assert other.boundaries == {None}
    assert other.values == pytest.approx(one.values, rel=1e-5)


def test_beyond_the_memory_they_are_mapped_from_their_files(build_run, pretrained):
    _, one = trained(build_run, *LAST, pretrained)
    shutil.rmtree(cache_dir())
    run, other = trained(build_run, *LAST, pretrained, "cache.memory=0")
    assert one.values == other.values
    assert entries("activations")
    assert run.module.cache.suffix is not None


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["plugins=[augmentation]"], "plugins.augmentation changes the images of every batch"),
        (["plugins=[mixup]"], "plugins.mixup changes the images of every batch"),
        (["plugins=[cutmix]", "recipe=auto"], "plugins.cutmix changes the images of every batch"),
        (["plugins=[augmentation]", "plugins.augmentation.ramp=linear", "recipe=auto"], "plugins.augmentation changes"),
    ],
)
def test_what_would_not_be_the_same_is_not_stored(build_run, pretrained, capsys, overrides, why):
    _, losses = trained(build_run, *LAST, pretrained, *overrides)
    assert losses.boundaries == {None}
    assert why in capsys.readouterr().out


@pytest.mark.parametrize("plugin", ["augmentation", "mixup"])
def test_the_default_recipe_stores_what_a_plugin_says_may_be_stored(build_run, pretrained, plugin):
    _, losses = trained(build_run, *AUTO, pretrained, f"plugins=[{plugin}]", "recipe.phases.1.views=2")
    assert losses.boundaries == {"stage4", "stage3"}
    _, plain = trained(build_run, *AUTO, pretrained, "recipe.phases.1.views=2")
    assert losses.values != plain.values


def test_a_model_that_cannot_be_cut_trains_on_images_and_says_so(build_run, pretrained, capsys, monkeypatch):
    monkeypatch.setattr("ft.model.timm_model.split", lambda *args: None)
    _, losses = trained(build_run, *LAST, pretrained)
    assert losses.boundaries == {None}
    said = capsys.readouterr().out
    assert said.count("this model cannot be cut before stage4") == 1


def test_weights_that_changed_below_the_boundary_are_other_activations(build_run, pretrained):
    """Stage 4 trains in the first epoch, is frozen in the second: its new weights are what is stored then."""
    schedule = "[{epoch: 0, open: [stage4, head]}, {epoch: 1, open: [head]}]"
    options = (
        "plugins=[gradual_unfreezing]", f"plugins.gradual_unfreezing.schedule={schedule}", "trainer.max_epochs=2",
    )  # fmt: skip
    _, stored = trained(build_run, *options, pretrained)
    _, plain = trained(build_run, *options, pretrained, "cache=off")
    assert stored.boundaries == {"stage4", "head"}
    assert stored.values == pytest.approx(plain.values, rel=1e-5)


def test_a_boundary_that_moves_up_starts_from_what_was_stored_before_the_last_one(build_run, pretrained, capsys):
    schedule = "[{epoch: 0, open: [stage3, head]}, {epoch: 1, open: [head]}]"
    lr = "optimizer.lr=1e-30"  # nothing below the new boundary has changed
    options = ("plugins=[gradual_unfreezing,frozen_batchnorm]", f"plugins.gradual_unfreezing.schedule={schedule}", lr)
    _, stored = trained(build_run, *options, pretrained, "trainer.max_epochs=2", "model.head.hidden=[8]")
    said = capsys.readouterr().out
    assert stored.boundaries == {"stage3", "head"}
    assert said.count("through the frozen stages once") == 2, "one pass for both boundaries"
    run = build_run(*options, pretrained, "trainer.max_epochs=2")
    run.trainer.callbacks.append(StopIn(epoch=1, batch=None))
    with pytest.raises(Killed):
        fit(run, started=0.0)
    shutil.rmtree(cache_dir())
    capsys.readouterr()
    cache, data, module = run.module.cache, run.loaders, run.module
    direct = cache.features(module, data, [])
    assert "from what is stored before stage3" in capsys.readouterr().out
    module.eval()
    with torch.no_grad():
        for batch in data.evaluation_loader("train"):
            images = module.on_after_batch_transfer(batch, 0).images
            assert torch.allclose(direct.take(batch.index)[0], module.model.features(images), rtol=1e-5, atol=1e-6)


def test_each_epoch_sees_one_stored_view_of_each_image():
    drawn = torch.stack([drawn_views(0, epoch, 1000, 4) for epoch in range(8)])
    assert sorted(drawn.unique().tolist()) == [0, 1, 2, 3]
    shares = torch.stack([(drawn == view).float().mean() for view in range(4)])
    assert shares.min() > 0.2
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[3], drawn_views(0, 3, 1000, 4))


def made(dtype: str, values: torch.Tensor, key: str | None = None):
    writer = Writer(key, dtype, len(values) + 1, {}, in_memory=True)
    for start in range(0, len(values), 3):
        index = torch.arange(start, min(start + 3, len(values)))
        writer.add([values[index]], index)
    writer.failures = [(len(values), "no image")]
    return writer.finish()


@pytest.mark.parametrize(("dtype", "close"), [("fp32", 0.0), ("bf16", 2**-8), ("int8", 1 / 127)])
@pytest.mark.parametrize("shape", [(7, 5), (7, 4, 5), (7, 4, 3, 3)])
def test_what_is_stored_comes_back_as_close_as_its_kind_allows(dtype, close, shape):
    torch.manual_seed(0)
    values = torch.randn(shape)
    if len(shape) == 4:
        values = values.to(memory_format=torch.channels_last)
    again = decode(encode(values, dtype)).float()
    assert (again - values).abs().max() <= close * values.abs().max()
    stored = made(dtype, values, "x")
    found = read("x", memory=0)
    assert found is not None
    index = torch.tensor([6, 0, 3])
    assert torch.equal(found.take(index)[0].float(), again[index])
    assert torch.equal(stored.take(index)[0].float(), again[index])
    assert found.take(index)[0].stride()[-1:] == values[index].stride()[-1:]


def test_an_image_that_cannot_be_read_is_reported_from_the_store_too():
    values = torch.randn(7, 5)
    source = StoredViews([made("fp32", values)], torch.arange(8), "head", seed=0)
    batch = source.batch([(0, 2), (0, 7), (0, 4)])
    assert batch.index.tolist() == [2, 4]
    assert batch.failures == ((7, "no image"),)
    assert torch.equal(batch.images, values[[2, 4]])


def test_several_views_are_gathered_in_the_order_of_the_batch():
    one, two = torch.randn(8, 5), torch.randn(8, 5)
    source = StoredViews([made("fp32", one), made("fp32", two)], torch.arange(9), "head", seed=3)
    keys = [(5, at) for at in (6, 1, 0, 7, 3)]
    drawn = drawn_views(3, 5, 9, 2)
    wanted = torch.stack([(one, two)[int(drawn[at])][at] for _, at in keys])
    assert torch.equal(source.batch(keys).images, wanted)


def test_the_key_says_everything_that_matters():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    names = ["0.weight", "1.running_mean"]
    before = weights_hash(model, names)
    assert key_of({"a": 1}) != key_of({"a": 2})
    with torch.no_grad():
        model[1].get_buffer("running_mean").add_(1)
    assert weights_hash(model, names) != before
