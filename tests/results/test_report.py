"""The page of a run: what is in it, for every task; what happens where something is missing; how training calls it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from PIL import Image

from ft.build import report as building
from ft.build.report import build_report
from ft.errors import UserError
from ft.inference.material import Material
from ft.inference.predictions import Predictions
from ft.report import FAILURE, report
from ft.results import gradcam
from ft.results.report import write_report
from ft.results.sections import Gallery, cam_cards, mistakes, training_views
from ft.run_folder import RunFolder
from ft.train import train
from tests.conftest import TINY, composed

RUDE = '<b>&"x'


def material_of(folder: Path, *overrides: str) -> Material:
    with composed(f"run='{folder}'", "device=cpu", *overrides, config="report") as config:
        return build_report(config)


def page_of(material: Material) -> str:
    return write_report(material).read_text(encoding="utf-8")


def ids(page: str) -> set[str]:
    return set(re.findall(r'<section id="(\w+)"', page))


def assert_is_closed(page: str) -> None:
    """Nothing in the page is loaded from elsewhere."""
    assert "http://" not in page
    assert "https://" not in page
    loaded = re.findall(r'\b(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert loaded
    assert all(each.startswith(("#", "data:")) for each in loaded)
    assert "@import" not in page
    assert len(page.encode()) < 5 * 2**20


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunFolder:
    """A run with augmentation and its report, which no test changes."""
    where = tmp_path_factory.mktemp("trained")
    with composed(*TINY, f"runs_dir={where}", "plugins=[augmentation]", "report=true") as config:
        train(config)
    return RunFolder((where / "last").resolve())


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained.path, tmp_path / "copy"))


def test_training_leaves_a_page_with_every_section_and_figures_as_files(trained):
    page = (trained.path / "report.html").read_text(encoding="utf-8")
    assert ids(page) == {
        "summary", "training", "confusion", "classes", "mistakes", "attention", "calibration", "data", "settings"
    }  # fmt: skip
    assert_is_closed(page)
    plots = {file.stem for file in (trained.path / "plots").glob("*.png")}
    assert plots == {
        "loss", "metrics", "learning_rate", "plugin_augmentation", "confusion_counts", "confusion_shares",
        "reliability_before", "reliability_after",
    }  # fmt: skip
    for name in plots:
        with Image.open(trained.path / "plots" / f"{name}.png") as image:
            assert min(image.size) > 300
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert page.count('class="plot"') == len(plots)
    # One id, one element: figures would otherwise borrow each other's parts.
    found = re.findall(r'\bid="([^"]+)"', page)
    assert len(found) == len(set(found))
    summary = json.loads(trained.summary.read_text())
    assert f"{100 * summary['test/acc']:.1f} %" in page
    assert "6 of 6 open" in page
    assert page.count(', augmented"') == 6 * 4
    assert page.count("What speaks for") == page.count('<div class="twice">') > 6
    assert {path.name for path in trained.path.iterdir() if path.name.startswith((".", "report"))} == {"report.html"}


def test_names_of_classes_files_and_settings_are_text_and_nothing_else(folder):
    (folder / "plots" / "of_before.png").write_bytes(b"")
    file = {"split": "train", "file": RUDE, "label": "cat"}
    listed = [{"same": "bytes", "files": [file, {**file, "split": "test", "label": "dog"}]}] * 30
    finding = {"kind": "leakage", "severity": "error", "title": f"{RUDE} twice", "count": 30, "items": listed}
    (folder / "doctor.json").write_text(
        json.dumps(
            {
                "findings": [finding],
                "skipped": ["labels: too few images"],
                "pictures": {"labels": "doctor/labels.png", "gone": "doctor/gone.png"},
            }
        )
    )
    (folder / "doctor").mkdir()
    Image.new("RGB", (2000, 30)).save(folder / "doctor" / "labels.png")
    found = material_of(folder)
    told = found.predictions["test"]
    reading = replace(told.reading, classes=(RUDE, *told.reading.classes[1:]))
    rude = replace(told, reading=reading, names=tuple(f"{RUDE}/{name}" for name in told.names))
    config = {**found.config, "data": {**found.config["data"], "root": RUDE}}
    page = page_of(replace(found, predictions={"test": rude}, predictor=replace(found.predictor, reading=reading),
                           config=config))  # fmt: skip
    assert RUDE not in page
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;&#34;x" in page
    # matplotlib escapes what it writes into a figure.
    assert '&lt;b&gt;&amp;"x' in page
    assert "&lt;b&gt;&amp;&#34;x twice" in page
    assert "train/&lt;b&gt;&amp;&#34;x (cat) = test/&lt;b&gt;&amp;&#34;x (dog), same bytes" in page
    assert "and 18 more, in doctor.json" in page
    assert "labels: too few images" in page
    assert "Contact sheet: labels" in page
    assert "Contact sheet: gone" not in page
    assert not (folder / "plots" / "of_before.png").exists()
    assert (folder / "plots" / "loss.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "sections", "plots"),
    [
        (("task=multilabel", "data.kind=labels"), {"classes", "calibration"}, {"labels_true", "labels_predicted"}),
        (("task=regression", "data.kind=values"), {"numbers"}, {"scatter_0", "residuals_2"}),
    ],
)
def test_other_tasks_have_what_applies_to_them(train_run, overrides, sections, plots):
    run = train_run(*overrides)
    page = page_of(material_of(run.folder.path))
    assert ids(page) == {"summary", "training", "mistakes", "attention", "data", "settings"} | sections
    assert plots <= {file.stem for file in (run.folder.path / "plots").glob("*.png")}
    assert_is_closed(page)
    assert page.count("What speaks for") > 0
    if "task=multilabel" in overrides:
        assert "threshold</button>" in page
        assert page.count('<tr><th scope="row">circle</th>') == 2


def test_without_the_package_the_page_names_the_extra(folder, monkeypatch):
    found = material_of(folder)
    monkeypatch.setattr(gradcam, "find_spec", lambda name: None)
    wrong, right, line = cam_cards(found, Gallery(found))
    assert not wrong
    assert not right
    assert line == "Grad-CAM needs the package grad-cam: pip install -c constraints.txt -e '.[report]'"


def photos(root: Path) -> Path:
    """``{cat,dog}``: a dozen plain pictures each, dark and bright."""
    for name, shade in (("cat", 40), ("dog", 200)):
        (root / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (40, 36), (shade + number, shade, shade)).save(root / name / f"{number}.png")
    return root


def test_without_its_data_the_page_has_no_pictures_and_says_why(tmp_path):
    root = photos(tmp_path / "photos")
    plain = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]
    with composed(*plain, "data=folder", f"data.root='{root}'", f"runs_dir={tmp_path}/runs") as config:
        train(config)
    folder = (tmp_path / "runs" / "last").resolve()
    found = material_of(folder)
    for file in root.glob("*/*.png"):
        file.unlink()
    # Between the look at the data and the look at an image it can vanish.
    assert all(card["image"] is None for card in mistakes(found, Gallery(found)))
    assert cam_cards(found, Gallery(found)) == ([], [], "There is no image to look at.")
    assert found.pictures is not None
    assert training_views(found.pictures, found) == []
    shutil.rmtree(root)
    page = page_of(material_of(folder))
    assert "data:image/" not in page
    assert f"Without pictures: data.root={root} is not a folder" in page
    assert {"confusion", "classes", "calibration"} <= ids(page)
    shutil.rmtree(folder / "predictions")
    with pytest.raises(UserError, match=r"no predictions, and its data set is not there"):
        material_of(folder)


def test_stored_predictions_are_read_and_missing_ones_computed(train_run, monkeypatch):
    run = train_run("test=false")
    assert not (run.folder.path / "predictions").exists()
    found = material_of(run.folder.path)
    assert found.split == "test"
    assert run.folder.reading.is_file()
    assert found.predictor.reading == found.predictions["test"].reading
    assert found.predictor.reading.temperature != 1
    assert len(Predictions.load(run.folder.path, "test")) == len(run.data.splits["test"].names)
    monkeypatch.setattr(building, "build_evaluation", lambda config: pytest.fail("they are stored"))
    again = material_of(run.folder.path)
    assert torch.equal(again.predictions["test"].logits, found.predictions["test"].logits)


def test_training_views_are_those_of_the_epoch_in_the_middle(build_run, folder):
    config = build_run("plugins=[augmentation,mixup]", "trainer.max_epochs=4").config
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    pictures = material_of(folder).pictures
    assert pictures is not None
    assert pictures.drawn is not None
    assert pictures.drawn_when == "epoch 3 of 4"
    read, one = pictures.drawn([0, 5, 9], 0)
    assert read == [0, 5, 9]
    assert one.shape == (3, 3, 32, 32)
    assert one.dtype == torch.uint8
    assert torch.equal(one, pictures.drawn([0, 5, 9], 0)[1])
    assert not torch.equal(one, pictures.drawn([0, 5, 9], 1)[1])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({**config, "plugins": {}}))
    plain = material_of(folder).pictures
    assert plain is not None
    assert plain.drawn is None


def test_the_runs_of_a_sweep_have_no_report(tmp_path):
    with composed(*TINY, f"runs_dir={tmp_path}", "report=true", "hydra.mode=MULTIRUN") as config:
        assert HydraConfig.get().mode is RunMode.MULTIRUN
        assert train(config) is not None
    assert (tmp_path / "last" / "predictions").is_dir()
    assert not (tmp_path / "last" / "report.html").exists()


def test_a_report_that_fails_costs_one_line_and_no_run(tmp_path, monkeypatch, capsys):
    def broken(material: Material) -> Path:
        raise RuntimeError("the printer is on fire\nand more")

    monkeypatch.setattr("ft.results.report.write_report", broken)
    with composed(*TINY, f"runs_dir={tmp_path}", "report=true") as config:
        assert train(config) is not None
    folder = (tmp_path / "last").resolve()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no report" in line]
    assert line.startswith("no report: the printer is on fire (")
    assert "RuntimeError: the printer is on fire" in (folder / FAILURE).read_text()
    assert (folder / "summary.json").is_file()
    with composed(f"run='{folder}'", config="report") as config, pytest.raises(RuntimeError, match="on fire"):
        report(config)


def test_images_of_another_data_set_are_not_shown_beside_the_predictions(folder):
    predictions = Predictions.load(folder, "test")
    replace(predictions, names=(*predictions.names[1:], predictions.names[0])).save(folder)
    material = material_of(folder)
    assert material.pictures is None
    assert "other images now" in page_of(material)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("run=null", "ft.report needs run=RUN_FOLDER"),
        ("run=nowhere", "run=nowhere is not a run folder"),
        ("split=tst", "split=tst is not a choice: .* Did you mean test"),
        ("device=tpu9", "device=tpu9 cannot be used"),
    ],
)
def test_a_wrong_wish_is_told(trained, override, told):
    with composed(f"run='{trained.path}'", override, config="report") as config, pytest.raises(UserError, match=told):
        build_report(config)
