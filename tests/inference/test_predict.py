"""``ft.predict`` from its config to its files: the same logits as the run's test, in every way of asking."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ft.build.run import build
from ft.build.trained import load_predictor
from ft.errors import UserError
from ft.fit import fit
from ft.inference.inputs import find_images
from ft.inference.predict_files import predict_files
from ft.inference.predictions import Predictions
from ft.inference.tta import Views
from ft.predict import predict
from ft.run_folder import RunFolder
from ft.show import predicted
from tests.conftest import TINY, composed

ROOT = Path(__file__).parent.parent.parent
PLAIN = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]
KINDS = ("cat", "dog", "owl", "yak")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``{cat,dog,owl,yak}/*.png``, eight each of odd sizes, and tables of them with labels and numbers."""
    folder = tmp_path_factory.mktemp("photos = [all]")
    generator = np.random.default_rng(0)
    rows = []
    for kind, name in enumerate(KINDS):
        (folder / name).mkdir()
        for number in range(8):
            size = (40 + 7 * number, 60 - 3 * number)
            pixels = generator.integers(0, 120 + 40 * kind, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
            split = "test" if number < 3 else "val" if number < 5 else "train"
            rows.append(
                {"file": f"{name}/{number}.png", "split": split, "wild": kind // 2, "big": kind % 2, "kg": kind}
            )
    for name, columns in (("labels", ("wild", "big")), ("numbers", ("kg",))):
        with (folder / f"{name}.csv").open("w", newline="") as out:
            writer = csv.DictWriter(out, ["file", "split", *columns], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a tiny run on the photos, one of a kind, and gives its folder."""
    known: dict[str, Path] = {}

    def make(task: str = "classification") -> Path:
        if task not in known:
            name = {"multilabel": "labels", "regression": "numbers"}.get(task)
            data = ["data=folder", f"data.root='{photos}'", "data.test_fraction=0.4"]
            if name:
                data = ["data=table", f"data.csv_file='{photos}/{name}.csv'", f"task={task}", "data.numeric=true"]
            with composed(*PLAIN, *data, f"runs_dir={tmp_path_factory.mktemp('runs')}") as config:
                run = build(config)
            fit(run, started=0.0)
            known[task] = run.folder.path
        return known[task]

    return make


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Runs the verb and reads its CSV."""

    def make(run: Path, given: Path | str, *overrides: str) -> list[dict[str, str]]:
        base = (f"run='{run}'", f"input='{given}'", f"output='{tmp_path}/p.csv'", "num_workers=0")
        with composed(*base, *overrides, config="predict") as config:
            count = predict(config)
        rows = read(tmp_path / "p.csv")
        assert count == len(rows)
        return rows

    return make


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("workers", [0, 2])
def test_logits_of_files_are_those_that_the_run_was_tested_with(trained, photos, workers):
    predictor, tested = load_predictor(RunFolder(trained())), Predictions.load(trained(), "test")
    images = find_images(str(photos))
    raw = SimpleNamespace(reading=SimpleNamespace(tell=lambda logits: logits, classes=KINDS), run=predictor.run)
    views = Views(predictor.transform)
    batches = list(predict_files(raw, images, views=views, batch_size=5, num_workers=workers))  # pyright: ignore[reportArgumentType]
    logits = {name: row for batch in batches for name, row in zip(batch.names, batch.told, strict=True)}
    assert list(logits) == [image.name for image in images]
    assert len(tested) >= 8
    ours = torch.stack([logits[name] for name in tested.names])
    assert float((ours - tested.logits).abs().max()) < 1e-4
    assert float((tested.logits[0] - tested.logits[-1]).abs().max()) > 1e-3, "different images have different logits"


def test_a_table_holds_the_calibrated_probabilities_in_the_order_of_the_input(trained, photos, ask, capsys):
    tested = Predictions.load(trained(), "test")
    rows = ask(trained(), photos, "probabilities=true", "top_k=2", "abstain_below=0.999")
    assert [row["image"] for row in rows] == [image.name for image in find_images(str(photos))]
    assert tested.reading.temperature != 1
    by_name = {row["image"]: row for row in rows}
    for name, told in zip(tested.names, tested.told, strict=True):
        row = by_name[name]
        shown = [float(row[f"probability_{kind}"]) for kind in KINDS]
        assert shown == pytest.approx(told.tolist(), abs=1e-5)
        assert (row["label"], row["abstained"]) == ("", "true")
        assert float(row["probability"]) == max(shown)
        assert float(row["top2_probability"]) == sorted(shown)[-2]
    assert "32 images predicted" in (out := capsys.readouterr().out)
    assert "abstained 32" in out


def test_every_way_to_name_an_image_says_the_same_of_it(trained, photos, ask):
    whole = {row["image"]: row for row in ask(trained(), photos)}
    one = ask(trained(), photos / "dog" / "3.png", "overwrite=true")
    assert {**one[0], "image": "dog/3.png"} == whole["dog/3.png"]
    listed = ask(trained(), photos / "labels.csv", "overwrite=true")
    assert listed == [whole[row["file"]] for row in read(photos / "labels.csv")]


def test_all_formats_hold_the_same_rows_and_embeddings_are_the_models(trained, photos, ask, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = ask(trained(), photos / "dog", f"embeddings='{tmp_path}/new/e.npy'", "batch_size=3")
    with composed(
        f"run='{trained()}'", f"input='{photos}/dog'", f"output='{tmp_path}/p.parquet'", config="predict"
    ) as config:
        predict(config)
    stored = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert [{key: str(value) for key, value in row.items()} for row in stored] == rows
    predictor = load_predictor(RunFolder(trained()))
    assert predictor.embed is not None
    images = torch.stack([predictor.transform(Image.open(photos / "dog" / f"{number}.png")) for number in range(8)])
    assert np.allclose(np.load(tmp_path / "new/e.npy"), predictor.embed(images).numpy(), atol=1e-5)
    assert json.loads((tmp_path / "new/e.names.json").read_text()) == [f"{number}.png" for number in range(8)]


@pytest.mark.parametrize("tta", ["flip", "ten_crop"])
def test_augmented_probabilities_are_averages(trained, photos, ask, tta):
    rows = ask(trained(), photos / "owl", "probabilities=true", f"tta={tta}", "batch_size=7")
    predictor = load_predictor(RunFolder(trained()))
    for row in rows:
        views = Views(predictor.transform, tta)(Image.open(photos / "owl" / row["image"]))
        told = predictor.reading.tell(predictor.run(torch.cat([views, views.flip(-1)]))).mean(0)
        assert [float(row[f"probability_{kind}"]) for kind in KINDS] == pytest.approx(told.tolist(), abs=1e-5)


def test_labels_are_read_with_the_tuned_thresholds(trained, photos, ask):
    tested = Predictions.load(trained("multilabel"), "test")
    assert tested.reading.thresholds is not None
    by_name = {row["image"]: row for row in ask(trained("multilabel"), photos)}
    there = tested.reading.labels(tested.told)
    for name, told, labels in zip(tested.names, tested.told, there, strict=True):
        row = by_name[name]
        assert [float(row["probability_wild"]), float(row["probability_big"])] == pytest.approx(told.tolist(), abs=1e-5)
        assert row["labels"] == ";".join(n for n, is_there in zip(("wild", "big"), labels, strict=True) if is_there)
    assert {row["labels"] for row in ask(trained("multilabel"), photos, "threshold=0", "overwrite=true")} == {
        "wild;big"
    }


def test_numbers_are_in_the_datas_own_unit(trained, photos, ask):
    tested = Predictions.load(trained("regression"), "test")
    by_name = {row["image"]: row for row in ask(trained("regression"), photos)}
    assert list(by_name["cat/0.png"]) == ["image", "kg"]
    for name, told in zip(tested.names, tested.told, strict=True):
        assert float(by_name[name]["kg"]) == pytest.approx(told.item(), abs=1e-4)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_are_listed_or_end_it(trained, photos, ask, tmp_path, capsys, workers):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    whole = (photos / "cat" / "0.png").read_bytes()
    (mixed / "0 = [red].png").write_bytes(whole)
    (mixed / "1.png").write_bytes(whole[: len(whole) // 2])
    (mixed / "[bold]2[].png").write_bytes(b"no picture")
    Image.new("L", (1, 5_000_000)).save(mixed / "thin.png")
    rows = ask(trained(), mixed, f"num_workers={workers}", "batch_size=2")
    assert [row["image"] for row in rows] == ["0 = [red].png"]
    bad = {row["image"]: row["error"] for row in read(tmp_path / "p.bad.csv")}
    assert set(bad) == {"1.png", "[bold]2[].png", "thin.png"}
    out = capsys.readouterr().out
    assert all(f"left out: {name}: {why}" in out for name, why in bad.items())
    for file in ("p.csv", "p.bad.csv"):
        (tmp_path / file).unlink()
    with pytest.raises(UserError, match=r"2\[\].png cannot be read: not an image that Pillow knows\. Mend"):
        ask(trained(), mixed, "on_bad=error")
    (mixed / "[bold]2[].png").unlink()
    with pytest.raises(UserError, match=r"/?1.png cannot be read: "):
        ask(trained(), mixed, "on_bad=error")
    assert os.listdir(tmp_path) == ["mixed"]


def test_mistakes_are_told_before_a_model_is_loaded(ask, photos, tmp_path):
    for overrides, rule in (
        (("run=null",), r"needs run=RUN_FOLDER, or run=last"),
        (("input=null",), r"needs input=FOLDER, IMAGE, GLOB or FILE.csv"),
        (("input=[a,b]",), r"read as a list\. Quote it"),
        (("batch_size=0",), "batch_size must be at least 1, got 0"),
        (("num_workers=-1",), "num_workers must be auto, or 0 or more, got -1"),
        (("on_bad=drop",), "on_bad=drop is not a choice"),
        (("tta=ten",), "tta=ten is not a choice: .* Did you mean ten_crop"),
        (("precision=fp8",), "precision=fp8 is not a choice"),
        (("output=p.txt",), "output=p.txt must end in one of"),
        ((), "run=.*nowhere is not a run folder"),
    ):
        with pytest.raises(UserError, match=rule) as caught:
            ask(tmp_path / "nowhere", photos, *overrides)
        assert len(str(caught.value).splitlines()) <= 3
    assert not os.listdir(tmp_path)


def test_an_answer_that_is_no_number_is_never_written(trained, photos):
    predictor = load_predictor(RunFolder(trained()))
    spoilt = SimpleNamespace(reading=predictor.reading, run=lambda pixels: predictor.run(pixels) * float("nan"))
    batches = predict_files(
        spoilt,  # pyright: ignore[reportArgumentType]
        find_images(str(photos)),
        views=Views(predictor.transform),
        batch_size=4,
        num_workers=0,
    )
    with pytest.raises(UserError, match=r"cat/0.png: the model answers nan, which is no number"):
        next(batches)


def test_a_model_without_features_says_so(trained, photos):
    predictor = load_predictor(RunFolder(trained()))
    without = SimpleNamespace(reading=predictor.reading, run=predictor.run, embed=None, origin="model.onnx")
    batches = predict_files(
        without,  # pyright: ignore[reportArgumentType]
        find_images(str(photos)),
        views=Views(predictor.transform),
        batch_size=4,
        num_workers=0,
        features=True,
    )
    with pytest.raises(UserError, match=r"embeddings: model.onnx has no pooled features"):
        next(batches)


def test_a_pipe_gets_a_line_now_and_then(capsys):
    clock: Iterator[float] = iter(range(0, 1000, 6))
    seen = list(predicted.counted(range(10), 100, lambda batch: 10, clock=lambda: next(clock)))
    assert seen == list(range(10))
    assert capsys.readouterr().out.splitlines() == [
        "20 of 100 images, 2 a second",
        "40 of 100 images, 2 a second",
        "60 of 100 images, 2 a second",
        "80 of 100 images, 2 a second",
    ]


@pytest.mark.full
def test_ctrl_c_leaves_nothing_and_ends_with_130(trained, photos, tmp_path):
    many = tmp_path / "many.csv"
    many.write_text("file\n" + f"{photos}/cat/0.png\n" * 200_000)
    command = [
        sys.executable,
        "-m",
        "ft.predict",
        f"run='{trained()}'",
        f"input={many}",
        f"output={tmp_path}/new/p.csv",
    ]
    with subprocess.Popen(
        [*command, "num_workers=1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        until = time.monotonic() + 120
        while not list(tmp_path.glob("new/.*.new")) and time.monotonic() < until:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    assert os.listdir(tmp_path) == ["many.csv"]
