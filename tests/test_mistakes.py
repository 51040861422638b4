"""What a user can get wrong once the config is composed: one message that names what was given, the rule, the key."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ft.errors import UserError
from tests.conftest import TINY


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``photos/{cat,dog}/*.png``: eight small pictures each, different at every pixel."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(8):
            Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


WRONG_VALUES = {
    "model.head.drop_rate=1": "model.head.drop_rate must be in [0, 1), got 1",
    "model.head.hidden=[0]": "model.head.hidden must list widths of at least 1, got [0]",
    "model.head.activation=rel": "must be one of relu, tanh, gelu, silu, sigmoid, leaky_relu. Did you mean relu",
    "model.head.pool=sum": "model.head.pool=sum is not a choice",
    "model.head.norm=bat": "Did you mean batch?",
    "model.in_chans=2": "model.in_chans must be one of [1, 3, 4], got 2",
    "model.input.crop_pct=2": "model.input.crop_pct must be in (0, 1], got 2",
    "model.drop_path_rate=1": "model.drop_path_rate must be in [0, 1), got 1",
    "model.act_layer=gelux": "cannot be built with",
    "model.img_size=0": "model.img_size must be at least 1, got 0",
    "model.name=resnt18": "model.name=resnt18 is not a timm model. Did you mean resnet18",
    "model.name=resnet18.a9_in1k": "timm has no such weights. Did you mean resnet18.a",
    "model.weights=nowhere.safetensors": "model.weights=nowhere.safetensors is not a file",
    "model.weights_dir=/nowhere": None,
    "model.open=[stage7]": "the model's stages are stem, stage1, stage2, stage3, stage4, head",
    "model.open=[]": "model.open is empty",
    "model.num_classes=7": "model.num_classes=7, but the data has 4",
    "optimizer.lr=0": "optimizer.lr must be above 0, got 0",
    "optimizer.weight_decay=-1": "optimizer.weight_decay must be at least 0, got -1",
    "optimizer.layer_decay=1.5": "optimizer.layer_decay must be in (0, 1], got 1.5",
    "optimizer.betas=[2,0.9]": "optimizer: Invalid beta parameter",
    "+optimizer.bta=3": "optimizer.bta: AdamW has no such argument",
    "schedule.rise=1": "schedule.rise must be in (0, 1), got 1",
    "schedule.unit=epochs": "Did you mean epoch?",
    "task.loss=cross_entropie": "Did you mean cross_entropy",
    "task.label_smoothing=1": "task.label_smoothing must be in [0, 1), got 1",
    "data.batch_size=0": "data.batch_size must be at least 1, got 0",
    "data.num_workers=-1": "data.num_workers must be auto, or 0 or more, got -1",
    "data.num_classes=1": "data.num_classes must be between 2 and 12, got 1",
    "data.limit=0": "data.limit must be at least 1, got 0",
    "data.on_bad=ignore": "data.on_bad=ignore is not a choice: it must be one of error, skip",
    "data.class_weights=[1,2]": "data.class_weights must be null, balanced, or a list of 4 positive numbers",
    "trainer.precision=17": "trainer: ",
    "trainer.accelerator=gpu": "Set trainer.accelerator=auto, or trainer=cpu",
    "+trainer.max_epoch=3": "Did you mean max_epochs?",
    "+plugins.nothing.rate=1": "plugins.nothing has settings but is not switched on",
}


@pytest.mark.parametrize(("override", "told"), WRONG_VALUES.items(), ids=WRONG_VALUES.keys())
def test_a_wrong_value_is_refused_before_anything_is_written(build_run, tmp_path, monkeypatch, override, told):
    # A machine that has a GPU plays one that has none.
    monkeypatch.setattr("lightning.pytorch.accelerators.CUDAAccelerator.is_available", lambda: False)
    monkeypatch.setattr("lightning.pytorch.accelerators.MPSAccelerator.is_available", lambda: False)
    if override.startswith("model.weights_dir"):
        override, told = "model.weights_dir=/nowhere", "model.weights_dir=/nowhere is not a folder"
        with pytest.raises(UserError) as caught:
            build_run("model.weights=auto", override)
    else:
        with pytest.raises(UserError) as caught:
            build_run(override)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


FULL_BATCH_CONFLICTS = {
    "trainer.accumulate_grad_batches=2": "gradient accumulation: set trainer.accumulate_grad_batches=1",
    "model.head.drop_rate=0.1": "dropout (head.drop): set model.head.drop_rate=0",
    "trainer.precision=16-mixed": "half precision is only for mini-batches",
    "data.balanced=true": "balanced sampling: set data.balanced=false",
    "trainer.gradient_clip_val=1": "clipping",
}


@pytest.mark.parametrize("optimizer", ["gd", "cg", "lbfgs"])
@pytest.mark.parametrize(("override", "told"), FULL_BATCH_CONFLICTS.items(), ids=FULL_BATCH_CONFLICTS.keys())
def test_a_full_batch_optimizer_refuses_what_changes_its_loss(build_run, optimizer, override, told):
    with pytest.raises(UserError, match=f"optimizer={optimizer}") as caught:
        build_run(f"optimizer={optimizer}", override)
    assert told in str(caught.value)


def test_one_direction_has_one_rate(build_run):
    with pytest.raises(UserError, match=r"optimizer=cg .* one learning rate: set optimizer.layer_decay=1"):
        build_run("optimizer=cg", "optimizer.layer_decay=0.5")


@pytest.fixture
def build_folder(tmp_path, monkeypatch):
    """Builds on a folder of images; the overrides of the tiny run that are synthetic's own left out."""
    from ft.build.run import build
    from tests.conftest import composed

    plain = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]

    def make(*overrides: str):
        with composed(*plain, f"runs_dir={tmp_path}/runs", *overrides) as config:
            return build(config)

    return make


def test_folders_that_hold_nothing(build_folder, tmp_path, photos):
    (tmp_path / "empty").mkdir()
    (photos / "horse").mkdir()
    for root, told in (
        (tmp_path / "none", "is not a folder"),
        (tmp_path / "empty", "has no class directories"),
        (photos, "class 'horse' has no image in"),
    ):
        with pytest.raises(UserError, match=told):
            build_folder("data=folder", f"data.root='{root}'")
    with pytest.raises(UserError, match=r"data=folder needs data.root=PATH"):
        build_folder("data=folder")


def test_a_class_that_train_has_not(build_folder, photos, tmp_path):
    photos.rename(tmp_path / "train")
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "train").rename(root / "train")
    (root / "val" / "bird").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(root / "val" / "bird" / "1.png")
    with pytest.raises(UserError, match="class 'bird' is in val but not in train"):
        build_folder("data=folder", f"data.root='{root}'")


def test_an_unreadable_image_is_an_error_or_counted(build_folder, photos):
    (photos / "cat" / "0.png").write_bytes(b"")
    (photos / "dog" / "1.png").write_bytes(b"no picture at all")
    with pytest.raises(UserError, match=r"cat/0.png cannot be read: the file is empty \(1 more like it\)"):
        build_folder("data=folder", f"data.root='{photos}'")
    run = build_folder("data=folder", f"data.root='{photos}'", "data.on_bad=skip")
    assert run.data.bad_images.found == {
        "cat/0.png": "the file is empty",
        "dog/1.png": "not an image that Pillow knows",
    }
    assert sum(len(split.targets) for split in run.data.splits.values()) == 14


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_damaged_inside_is_found_when_it_is_decoded(build_folder, photos, workers):
    from ft.fit import fit

    for name in ("cat", "dog"):
        whole = (photos / name / "3.png").read_bytes()
        (photos / name / "3.png").write_bytes(whole[: len(whole) // 2])
    options = ("data=folder", f"data.root='{photos}'", "data.batch_size=4", f"data.num_workers={workers}")
    with pytest.raises(UserError, match=r"/3.png cannot be read: "):
        fit(build_folder(*options), started=0.0)
    run = build_folder(*options, "data.on_bad=skip")
    fit(run, started=0.0)
    assert set(run.data.bad_images.found) == {"cat/3.png", "dog/3.png"}
    assert "cat/3.png" in (run.folder.path / "bad_images.json").read_text()
    assert '"bad_images": 2' in run.folder.summary.read_text()


def test_a_decompression_bomb_is_refused_from_its_header(build_folder, photos, monkeypatch):
    monkeypatch.setattr("ft.data.images.MAX_PIXELS", 100)
    with pytest.raises(UserError, match="40 x 40 pixels are more than the limit of 100"):
        build_folder("data=folder", f"data.root='{photos}'")


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_tables_that_do_not_fit(build_folder, photos, tmp_path):
    rows = [{"file": f"{name}/{at}.png", "kind": name, "age": at} for name in ("cat", "dog") for at in range(8)]
    good = write_table(photos / "good.csv", rows)
    missing = write_table(photos / "missing.csv", [*rows, {"file": "cat/99.png", "kind": "cat", "age": 1}])
    base = ("data=table",)
    for overrides, told in (
        ((), "data=table needs data.csv_file=PATH"),
        ((f"data.csv_file='{tmp_path}/none.csv'",), "cannot be read"),
        ((f"data.csv_file='{missing}'", "data.label=kind"), "line 18: there is no image 'cat/99.png'"),
        ((f"data.csv_file='{good}'", "data.label=knd"), "the columns are file, kind, age. Did you mean kind?"),
        ((f"data.csv_file='{good}'",), "names 2 columns"),
        ((f"data.csv_file='{good}'", "data.label=kind", "data.numeric=true"), "kind='cat' is no number"),
        ((f"data.csv_file='{good}'", "data.label=age", "data.numeric=true"), "task=classification needs one class"),
        ((f"data.csv_file='{good}'", "data.label=kind", "task=regression"), "task=regression needs numbers"),
    ):
        with pytest.raises(UserError) as caught:
            build_folder(*base, *overrides)
        assert told in str(caught.value)
    assert build_folder(*base, f"data.csv_file='{good}'", "data.label=kind").module.task.classes == ("cat", "dog")


def test_weights_that_do_not_fit_are_named(build_folder, build_run, tmp_path):
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("test_resnet").state_dict()
    short = {name: tensor for name, tensor in state.items() if name != "layer1.0.conv1.weight"}
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"do not fit the model: layer1.0.conv1.weight \(missing\)"):
        build_run(f"model.weights='{tmp_path}/short.safetensors'")
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :, :1]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match=r"conv1.0.weight is \[.*\], the model wants"):
        build_run(f"model.weights='{tmp_path}/odd.safetensors'")


def test_a_read_only_output_folder(build_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be made: .*\. Set runs_dir to a folder you can write to"):
        build_run(f"runs_dir='{tmp_path}/file/runs'")


def test_a_limit_of_less_than_one_batch_is_told_like_any_mistake(build_run):
    from ft.fit import fit

    with pytest.raises(UserError, match=r"trainer: You requested to check 0.1 of the val_dataloader"):
        fit(build_run("trainer.limit_val_batches=0.1"), started=0.0)


def test_an_experiment_without_its_package_line_is_told(build_run, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("trainer: {max_epochs: 1}\n")
    with pytest.raises(UserError, match=r"conf/experiment/mine.yaml needs '# @package _global_' as its first line"):
        build_run(f"hydra.searchpath=['{tmp_path}']", "experiment=mine")
