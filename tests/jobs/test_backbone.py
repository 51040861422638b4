"""What a job says of one candidate: the metric of held-out images, its error, LogME, cost; and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from ft.errors import UserError
from ft.input_spec import InputSpec
from ft.job_folder import FINISHED, Job, JobFolder, Result
from ft.jobs.backbone import HELD_OUT, score_backbone
from ft.jobs.backbone_cost import milliseconds
from ft.jobs.backbone_view import fast_precision, lower, some_of
from ft.jobs.bootstrap import bootstrapped, metric_value
from ft.tasks.classification import Classification
from ft.tasks.regression import Regression
from tests.conftest import composed

TINY = ("model.name=test_resnet", "data.num_workers=0", "data.suggested.img_size=32", "trainer.accelerator=cpu",
        "sweep=backbones")  # fmt: skip
SHAPES = ("data=synthetic", "data.num_images=60", "data.size=32")
ASKED = {"resolution": None, "images": 30, "folds": 3}


@pytest.fixture
def score(tmp_path, pretrained):
    """Scores the tiny backbone; returns the job's folder."""

    def make(*overrides: str, name: str = "job", **settings: object) -> JobFolder:
        folder = JobFolder(tmp_path / name)
        folder.ask(Job("backbone", name, settings={**ASKED, **settings}), "")
        data = () if any(word.startswith("data=") for word in overrides) else SHAPES
        with composed(*data, *TINY, pretrained, *overrides) as config:
            score_backbone(folder, config, started=0.0)
        return folder

    return make


def result_of(folder: JobFolder) -> Result:
    found = folder.result()
    assert found is not None
    assert found.status == FINISHED
    return found


def test_the_value_is_the_metric_of_the_held_out_predictions(score):
    folder = score()
    result = result_of(folder)
    with np.load(folder.path / HELD_OUT) as kept:
        logits, targets, rows = kept["logits"], kept["targets"], kept["rows"]
        bootstraps = kept["bootstraps"]
    assert len(rows) == len(targets) == 30
    assert result.value == pytest.approx((logits.argmax(1) == targets).mean())
    assert result.metrics["cv/acc"] == result.value
    assert result.metrics["cv/se"] == pytest.approx(bootstraps.std(ddof=1))
    assert result.metrics["side"] == 32
    assert np.isfinite(result.metrics["logme"])


def test_the_same_job_gives_the_same_again_and_takes_the_features_from_the_cache(score, monkeypatch):
    one = score(name="one")

    def none(*args: object, **kwargs: object) -> None:
        raise AssertionError("an image was put through the network")

    monkeypatch.setattr("ft.model.timm_model.TimmModel.features", lambda self, images: none() if len(images) > 1 else
                        images.flatten(1))  # fmt: skip
    two = score(name="two")
    first, second = result_of(one).metrics, result_of(two).metrics
    for key in ("cv/acc", "cv/se", "logme", "images"):
        assert first[key] == second[key]
    with np.load(one.path / HELD_OUT) as a, np.load(two.path / HELD_OUT) as b:
        assert np.array_equal(a["bootstraps"], b["bootstraps"])


def test_numbers_have_their_own_metric(score, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = ["file,level"]
    for at in range(40):
        level = int(generator.integers(255))
        Image.fromarray(np.full((32, 32, 3), level, dtype=np.uint8)).save(folder / f"{at}.png")
        lines.append(f"{at}.png,{level}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    result = result_of(score(
        "data=table", f"data.csv_file='{folder}/table.csv'", "data.label=level", "data.numeric=true",
        "task=regression", images=None,
    ))  # fmt: skip
    name = next(key for key in result.metrics if key.startswith("cv/") and key != "cv/se")
    assert name == "cv/mae"
    # In the data's own unit: far better than what the mean would do, which is about 64.
    assert 0 < result.metrics[name] < 40
    assert 0 < result.metrics["cv/se"] < result.metrics[name]


def test_random_weights_are_refused(score):
    with pytest.raises(UserError, match=r"the weights of test_resnet are random: .* Leave it out of sweep.candidates"):
        score("model.weights=none")


def test_more_folds_than_images_are_refused(score):
    with pytest.raises(UserError, match=r"sweep.folds must be in \[2, 30\], got 31"):
        score(folds=31)


def test_what_candidates_cost_is_told_by_name(score):
    with composed(*TINY, "model.weights=none") as config:
        section: Any = OmegaConf.to_container(config.model, resolve=True)
    folder = score(models={"one": section, "other": {**section, "name": "test_vit"}}, batch=2, rounds=1)
    told = result_of(folder).metrics
    assert told["ms_per_image/one"] > 0
    assert told["ms_per_image/other"] > 0
    assert told["batch"] == 2


def test_candidates_are_timed_in_turns_and_the_first_round_does_not_count():
    order = []

    class Model:
        input_spec = InputSpec(8, 8, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)

        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, images: torch.Tensor) -> None:
            assert images.shape == (4, 3, 8, 8)
            order.append(self.name)

    found = milliseconds({"a": Model("a"), "b": Model("b")}, batch=4, rounds=2, device=torch.device("cpu"))
    assert order == ["a", "b"] * 3
    assert set(found) == {"a", "b"}


def task_of(classes: int) -> Classification:
    task = Classification(loss="cross_entropy", label_smoothing=0.0, focal_gamma=0.0, metric="val/acc", mode="max")
    task.classes = tuple("abcdef"[:classes])
    return task


def test_the_bootstrap_of_accuracy_is_the_binomial_error():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (400,), generator=generator)
    logits = torch.nn.functional.one_hot(targets, 3).float() + 0.9 * torch.randn(400, 3, generator=generator)
    value, values = bootstrapped(task_of(3), logits, targets)
    assert value == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    assert values.std(ddof=1) == pytest.approx(np.sqrt(value * (1 - value) / 400), rel=0.2)
    # The same draws for everyone: the error of a difference of equals is 0.
    assert np.array_equal(values, bootstrapped(task_of(3), logits, targets)[1])


def test_the_loss_and_other_metrics_are_found_by_name():
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    task = task_of(2)
    task.metric = "val/loss"
    assert metric_value(task, logits, targets) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, targets))
    )
    numbers = Regression(loss="mse", huber_delta=1.0, metric="val/rmse", mode="min")
    numbers.classes = ("x",)
    assert metric_value(numbers, torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [3.0]])) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("share", "fixed", "side"),
    [(None, False, 224), (0.6, False, 128), (1, False, 224), (0.6, True, 224), (0.01, False, 32)],
)
def test_a_share_of_the_resolution_in_whole_strides(share, fixed, side):
    spec = InputSpec(224, 224, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.875)
    assert lower(spec, share, fixed=fixed) == replace(spec, height=side, width=side)


def test_a_share_above_one_is_refused():
    with pytest.raises(UserError, match=r"sweep.resolution must be in \(0, 1\], got 128"):
        lower(InputSpec(224, 224, (0.5,), (0.5,), "bicubic", 1.0), 128, fixed=False)


def test_a_sample_has_every_class_in_its_share(build_run):
    split = build_run("data.num_images=120").data.splits["train"]
    some = some_of(split, 40, seed=0)
    assert len(some.targets) == len(some.names) == len(some.images) == 40
    shares = some.targets.bincount() / 40 - split.targets.bincount() / len(split.targets)
    assert shares.abs().max() < 0.05
    assert [split.names.index(name) for name in some.names] == sorted(split.names.index(name) for name in some.names)
    assert some_of(split, None, seed=0) is split


def test_the_users_precision_comes_before_the_machines():
    assert fast_precision("32-true", torch.device("cpu")) == "fp32"
    assert fast_precision("bf16-mixed", torch.device("cpu")) == "bf16"
    assert fast_precision("auto", torch.device("cpu")) in ("fp32", "bf16")


def test_an_image_that_cannot_be_decoded_is_refused_or_left_out(score, tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for at in range(12):
            pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{at}.png")
    for damaged in sorted(Path(tmp_path / "photos" / "cat").iterdir()):
        damaged.write_bytes(damaged.read_bytes()[:2000])
        break
    words = ("data=folder", f"data.root='{tmp_path}/photos'", "data.val_fraction=0.1", "data.test_fraction=0")
    with pytest.raises(UserError, match="cannot be read"):
        score(*words, images=None)
    told = result_of(score(*words, "data.on_bad=skip", images=None, name="skip")).metrics
    assert told["unreadable"] == 1
    assert told["images"] == 24 - 2 - 1
