"""One step of everything: every model family, data set, task, loss, optimizer and schedule of conf/."""

import importlib.util

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from ft.fit import fit
from tests.conftest import CONF, TINY, composed

STEP = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "test=false")


def choices(group: str) -> list[str]:
    return [file.stem for file in sorted((CONF / group).glob("*.yaml"))]


@pytest.fixture
def step(tmp_path):
    """Builds and trains one batch; returns the run."""
    from ft.build.run import build

    def make(*overrides: str):
        with composed(f"runs_dir={tmp_path}/runs", "trainer.accelerator=cpu", *STEP, *overrides) as config:
            run = build(config)
        before = {name: value.clone() for name, value in run.module.model.named_parameters()}
        value = fit(run, started=0.0)
        assert value is not None
        assert any(not torch.equal(value, before[name]) for name, value in run.module.model.named_parameters())
        assert all(value.isfinite().all() for value in run.module.model.parameters())
        return run

    return make


# Every third in the fast tier.
FAMILIES = [pytest.param(name, marks=[pytest.mark.full] if at % 3 else []) for at, name in enumerate(choices("model"))]


@pytest.mark.parametrize("model", FAMILIES)
def test_every_model_family_takes_a_step(step, model):
    run = step(
        f"model={model}", "model.weights=none", "data=synthetic", "data.num_images=8", "data.batch_size=4",
        "model.img_size=56" if model == "dinov2" else "model.img_size=null", "data.suggested.img_size=64",
    )  # fmt: skip
    assert run.module.model.input_spec.height <= 64


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_every_optimizer_takes_a_step(step, optimizer):
    tiny = [each for each in TINY if not each.startswith("trainer")]
    run = step(*tiny, f"optimizer={optimizer}", "schedule=constant", "model.head.hidden=[4]")
    assert run.module.optimizer_options.name == ("lamb" if optimizer == "timm" else optimizer)


@pytest.mark.parametrize("schedule", choices("schedule"))
def test_every_schedule_takes_steps(train_run, schedule):
    run = train_run(f"schedule={schedule}", "trainer.max_epochs=3")
    assert run.trainer.global_step == 12


TASKS = {
    "classification": ("classes", ["cross_entropy", "binary_cross_entropy", "focal"]),
    "multilabel": ("labels", ["binary_cross_entropy", "focal", "asymmetric"]),
    "regression": ("values", ["mse", "l1", "huber"]),
}


@pytest.mark.parametrize(("task", "loss"), [(task, loss) for task, (_, losses) in TASKS.items() for loss in losses])
def test_every_task_and_loss_takes_a_step(train_run, task, loss):
    run = train_run(f"task={task}", f"task.loss={loss}", f"data.kind={TASKS[task][0]}", "trainer.max_epochs=1")
    assert run.checkpoints.best is not None
    assert set(choices("task")) == set(TASKS)


class FakeDownload:
    """Stands in for a torchvision data set: its images, its way to name splits, its labels, no network."""

    def __init__(self, root, *, download, train=None, split=None):
        self.classes = ["one", "two", "three"]
        self.targets = [0, 1, 2] * 8

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, position):
        return Image.new("RGB", (32, 32), (position * 10, 0, 0)), self.targets[position]


DOWNLOADED = {
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "flowers102": "Flowers102",
    "pets": "OxfordIIITPet",
    "eurosat": "EuroSAT",
    "svhn": "SVHN",
}
SMALL = ("model.name=test_resnet", "model.weights=none", "model.img_size=32", "data.batch_size=4", "data.num_workers=0")


@pytest.mark.parametrize("data", DOWNLOADED)
def test_every_downloaded_data_set_takes_a_step(step, data, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, DOWNLOADED[data], FakeDownload)
    run = step(f"data={data}", *SMALL)
    assert run.module.task.classes == ("one", "two", "three")
    assert {"train", "val", "test"} <= set(run.data.splits)


def test_torchvisions_constructors_take_what_we_give_them():
    import inspect

    from ft.data.torchvision_sets import SPLIT_ARGUMENTS

    assert set(SPLIT_ARGUMENTS) == set(DOWNLOADED.values())
    for name, splits in SPLIT_ARGUMENTS.items():
        signature = inspect.signature(getattr(torchvision.datasets, name))
        for arguments in splits.values():
            signature.bind("root", download=True, **arguments)


def test_a_download_that_fails_is_one_line(step, monkeypatch):
    from ft.errors import UserError

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", refuse)
    with pytest.raises(UserError, match=r"CIFAR10 is not in data.root=data and could not be downloaded: no route"):
        step("data=cifar10", *SMALL)


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                Image.fromarray(generator.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_takes_a_step(step, photos, workers):
    run = step("data=folder", f"data.root='{photos}'", *SMALL, f"data.num_workers={workers}", "data.balanced=true")
    assert run.module.task.classes == ("cat", "dog")
    assert {name: len(split.targets) for name, split in run.data.splits.items()} == {"train": 10, "val": 12, "test": 2}


def test_tables_take_a_step_for_every_task(step, photos):
    rows = ["name,split,kind,furry,age"]
    rows += [
        f"{split}/{name}/{at}.jpg,{split},{name},{at % 2},{at}.5"
        for split in ("train", "val") for name in ("cat", "dog") for at in range(6)
    ]  # fmt: skip
    (photos / "all.csv").write_text("\n".join(rows))
    table = ("data=table", f"data.csv_file='{photos}/all.csv'", *SMALL)
    assert step(*table, "data.label=kind", "data.class_weights=balanced").module.task.classes == ("cat", "dog")
    assert step(*table, "data.label=[furry]", "data.numeric=true", "task=multilabel").module.task.num_outputs == 1
    assert step(*table, "data.label=age", "data.numeric=true", "task=regression").module.task.classes == ("age",)


def test_a_hugging_face_folder_takes_a_step(step, photos):
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    run = step("data=hf", f"data.path='{photos}'", *SMALL)
    assert run.module.task.classes == ("cat", "dog")


def test_the_missing_extra_is_named(step, monkeypatch):
    import sys

    from ft.errors import UserError

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"data=hf needs the extra hf: pip install .*'\.\[hf\]'"):
        step("data=hf", "data.path=x", *SMALL)


def test_tensorboard_writes_into_the_run_folder(train_run):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    run = train_run("logger=[tensorboard]")
    assert list(run.folder.path.glob("tensorboard/events*"))
    assert (run.folder.path / "metrics.csv").is_file()


@pytest.mark.parametrize("logger", ["mlflow", "wandb"])
def test_a_logger_whose_extra_is_missing_names_it(build_run, logger):
    from ft.errors import UserError

    if importlib.util.find_spec(logger):
        pytest.skip(f"{logger} is installed")
    with pytest.raises(UserError, match=rf"logger={logger} needs the extra {logger}: pip install .*'\.\[{logger}\]'"):
        build_run(f"logger=[{logger}]")


@pytest.mark.parametrize("preset", choices("debug"))
def test_every_debug_preset_runs(train_run, preset):
    changes = {"overfit": ("trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1"), "profiler": (), "limit": ()}
    plain = () if preset == "overfit" else ("data.num_images=320",)
    run = train_run(f"debug={preset}", "trainer.max_epochs=1", *changes[preset], *plain)
    assert run.trainer.global_step >= 1


def test_a_subset_file_limits_training(step, photos, tmp_path):
    (tmp_path / "list.txt").write_text(
        "\n".join(f"train/{name}/{at}.jpg" for name in ("cat", "dog") for at in range(4))
    )
    run = step(
        "data=folder",
        f"data.root='{photos}'",
        f"data.subset_file='{tmp_path}/list.txt'",
        "data.test_fraction=0",
        *SMALL,
    )
    assert len(run.data.splits["train"].targets) == 8


def test_every_plugin_hook_is_called_and_evaluation_is_untouched(build_run):
    from ft.data.transforms import EvaluationTransform
    from ft.plugin import Plugin

    seen = set()

    class Nosy(Plugin):
        def open_stages(self, open, epoch, stages):
            seen.add("open_stages")
            return open

        def train_batch(self, images, targets, generator):
            seen.add(("train_batch", images.dtype, generator.initial_seed() != 0))
            return images.flip(3), targets

        def train_loss(self, loss):
            seen.add("train_loss")
            return lambda logits, targets: loss(logits, targets) * 2

        def param_groups(self, groups, model):
            seen.add("param_groups")
            return groups

        def lr_factor(self, factor, step, group, steps_per_epoch):
            seen.add(("lr_factor", group["stage"]))
            return factor / 2

    run = build_run("trainer.max_epochs=1")
    run.module.plugins.append(Nosy())
    fit(run, started=0.0)
    assert {"open_stages", "param_groups", "train_loss", ("train_batch", torch.float32, True)} <= seen
    assert ("lr_factor", "stem") in seen
    assert isinstance(run.loaders.eval_transform, EvaluationTransform)
    row = run.metrics.rows[0]
    assert row["train/loss"] > 1.6 * row["val/loss"]


def test_evaluation_computes_in_the_precision_of_the_run(train_run):
    from ft.build.evaluation import build_evaluation

    run = train_run("trainer.precision=bf16-mixed", "data.num_images=64", "trainer.max_epochs=1")
    with composed(f"run='{run.folder.path}'", "split=val", config="evaluate") as config:
        evaluation = build_evaluation(config)
    found = evaluation.trainer.test(evaluation.module, evaluation.loader, verbose=False)[0]
    assert found["test/loss"] == pytest.approx(run.checkpoints.best_values["val/loss"], rel=1e-6)
