"""``ft.export``: what is written where, what is kept, and what a failed export leaves: nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ft.command.mistakes import bracketed
from ft.deploy import timm_folder
from ft.deploy.load import load_exported
from ft.errors import UserError
from ft.export import export
from ft.run_folder import RunFolder
from tests.conftest import composed


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> Path:
    """A copy of the tiny run."""
    return Path(shutil.copytree(trained.path, tmp_path / "runs" / "tiny"))


def exported(run: Path, *overrides: str) -> list[str]:
    with composed(f"run='{run}'", *overrides, config="export") as config:
        return export(config)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_by_default_it_lies_in_the_run_and_says_how_it_compares(run, capsys):
    assert exported(run) == [str(run / "export" / "timm")]
    folder = run / "export" / "timm"
    assert set(tree(run / "export")) == {
        f"timm/{name}" for name in ("README.md", "config.json", "ft.json", "model.safetensors")
    }
    stored = json.loads((folder / "ft.json").read_text())
    assert stored["check"]["images"] == 9
    assert stored["check"]["source"] == "val"
    assert stored["check"]["agreement"] == 1.0
    assert 0 <= stored["check"]["max_difference"] <= stored["check"]["allowed"] < 1e-3
    told = capsys.readouterr().out
    assert "9 images of val in timm" in told
    assert "the same answer on 100.00%" in told
    # Whoever may read the run may read it.
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {(run / "config.yaml").stat().st_mode & 0o777}


def test_what_is_there_is_kept_unless_it_is_an_export_to_overwrite(run, tmp_path):
    first = tmp_path / "mine"
    exported(run, f"output='{first}'", "temperature=store")
    before = tree(first)
    with pytest.raises(UserError, match=r"mine holds an export already. Set overwrite=true"):
        exported(run, f"output='{first}'")
    assert tree(first) == before
    exported(run, f"output='{first}'", "overwrite=true")
    assert tree(first).keys() == before.keys()
    assert load_exported(first).reading.temperature == 1.0
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"foreign exists and is no export"):
        exported(run, f"output='{foreign}'", "overwrite=true")
    assert tree(foreign) == {"thesis.txt": b"years of work"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "mine", "runs"]


def test_an_export_that_computes_something_else_is_deleted(run, monkeypatch):
    right = timm_folder.linear_head

    def wrong(head):
        weight, bias = right(head)
        return weight, bias + torch.eye(len(bias), dtype=torch.float64)[0] * 0.01

    exported(run)
    before = tree(run / "export")
    monkeypatch.setattr(timm_folder, "linear_head", wrong)
    with pytest.raises(UserError, match=r"does not compute what the trained model computes, and was deleted") as caught:
        exported(run, "overwrite=true", "temperature=store")
    assert "largest difference 0.01" in str(caught.value)
    assert "raise tolerance" in str(caught.value)
    # The one that was there before is still there, and nothing beside it.
    assert tree(run / "export") == before
    exported(run, "overwrite=true", "temperature=store", "tolerance=0.1")


def test_images_of_a_folder_take_the_place_of_data_that_is_gone(run, photos, tmp_path):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(photos), str(tmp_path / "gone")))
    with pytest.raises(UserError, match=r"set images=FOLDER of images to check the export on"):
        exported(run)
    exported(run, f"images='{photos / 'ant'}'", "check_images=7")
    check = json.loads((run / "export" / "timm" / "ft.json").read_text())["check"]
    assert (check["images"], check["source"]) == (7, str(photos / "ant"))
    (tmp_path / "empty").mkdir()
    for folder, told in ((tmp_path / "empty", "holds no image"), (tmp_path / "none", "is not a folder")):
        with pytest.raises(UserError, match=told):
            exported(run, "overwrite=true", f"images='{folder}'")
    (tmp_path / "empty" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1.png cannot be read: not an image"):
        exported(run, "overwrite=true", f"images='{tmp_path / 'empty'}'")


def test_several_formats_get_a_folder_each(run, tmp_path):
    found = exported(run, "format=[timm,pt2]", f"output='{tmp_path}/out'", "pt2.preprocess=uint8")
    assert found == [f"{tmp_path}/out/timm", f"{tmp_path}/out/pt2"]
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(
        load_exported(Path(found[0])).run(pixels), load_exported(Path(found[1])).run(pixels), atol=1e-4
    )


MISTAKES = {
    "format=[tim]": "format=tim is not a choice: it must be one of timm, onnx, pt2. Did you mean timm?",
    "format=[]": "format=\\[\\] asks for nothing",
    "temperature=melt": "temperature=melt is not a choice",
    "tolerance=0": "tolerance must be above 0, got 0",
    "check_images=0": "check_images must be at least 1",
    "onnx.preprocess=jpeg": "onnx.preprocess=jpeg is not a choice: it must be one of normalized, uint8",
    "format=[onnx] onnx.opset=9": "onnx.opset must be at least 18, got 9",
}


@pytest.mark.parametrize(("overrides", "told"), MISTAKES.items())
def test_a_wrong_value_is_refused_before_anything_is_loaded(run, monkeypatch, overrides, told):
    monkeypatch.setattr("ft.build.trained.load_predictor", None)
    with pytest.raises(UserError, match=told):
        exported(run, *overrides.split())
    assert not (run / "export").exists()


def test_no_run_and_a_run_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="run must be a run folder"), composed(config="export") as config:
        export(config)
    with pytest.raises(UserError, match="none is not a run folder"):
        exported(tmp_path / "none")


def test_a_head_that_timm_has_not_leaves_nothing(build_run, tmp_path):
    from ft.fit import fit

    run = build_run("model.head.hidden=[8]", "trainer.max_epochs=1")
    fit(run, started=0.0)
    with pytest.raises(UserError, match=r"model.head.hidden=\[\]"):
        exported(run.folder.path)
    assert not tree(run.folder.path / "export")
    exported(run.folder.path, "format=pt2")


def test_commas_make_a_list_where_a_list_is_meant():
    given = ["run=a,b", "format=timm,onnx", "format=[pt2]", "format=timm", "output=x"]
    assert bracketed(given, ["format"]) == ["run=a,b", "format=[timm,onnx]", "format=[pt2]", "format=timm", "output=x"]
    assert bracketed(["-m", "format=timm,onnx"], ["format"]) == ["-m", "format=timm,onnx"]


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_are_exported_in_words_that_need_no_ft(task, photos, tmp_path):
    from ft.build.trained import load_predictor
    from tests.deploy.made import train_table

    folder = train_table(photos, tmp_path, task)
    (path,) = map(Path, exported(folder.path))
    check = json.loads((path / "ft.json").read_text())["check"]
    assert check["agreement"] == (None if task == "regression" else 1.0)
    predictor, found = load_predictor(folder), load_exported(path)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    told, plain = predictor.reading.tell(predictor.run(pixels)), found.run(pixels)
    if task == "regression":
        assert predictor.reading.std is not None
        assert torch.allclose(plain, told, rtol=1e-4, atol=1e-3)
    else:
        assert found.reading.thresholds is not None
        assert found.reading.thresholds == predictor.reading.thresholds
        assert torch.allclose(plain.sigmoid(), told, atol=1e-5)
    card = (path / "README.md").read_text()
    assert f"fine-tuned for {task} on the data set `labels`" in card
