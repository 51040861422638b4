"""What is written of predictions, in which columns, and that it is all there or nothing is."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ft.errors import UserError
from ft.inference.embeddings import Embeddings, embedding_files
from ft.inference.predict_files import Told
from ft.inference.reading import Reading
from ft.inference.rows import Rows
from ft.inference.tables import csv_table, parquet_table
from ft.inference.whole_files import whole_files
from ft.inference.write import Outputs, write_predictions

CLASSIFIER = Reading("classification", ("cat", "dog", "owl", "yak"), "softmax")
LABELS = Reading("multilabel", ("in", "out"), "sigmoid", thresholds=(0.2, 0.9))
NUMBERS = Reading("regression", ("age", "image"), "linear")
TOLD = torch.tensor([0.1, 0.6, 0.25, 0.05])


def told(names: list[str], rows: torch.Tensor, *failures: tuple[str, str], features: bool = False) -> Told:
    return Told(names, rows, torch.arange(len(names) * 2.0).view(-1, 2) if features else None, list(failures))


def outputs(tmp_path: Path, name: str = "p.csv", **options) -> Outputs:
    return Outputs(**{"table": tmp_path / name, "embeddings": None, "overwrite": False, "given": tmp_path, **options})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_classifier_has_its_likeliest_classes_side_by_side():
    rows = Rows(CLASSIFIER)
    assert dict(zip(rows.columns, rows.row("x.png", TOLD), strict=True)) == {
        "image": "x.png",
        "label": "dog",
        "probability": 0.6,
        "top2_label": "owl",
        "top2_probability": 0.25,
        "top3_label": "cat",
        "top3_probability": 0.1,
    }
    assert list(Rows(Reading("classification", ("a", "b"), "softmax")).columns)[-2:] == [
        "top2_label",
        "top2_probability",
    ]
    assert list(Rows(CLASSIFIER, top_k=1).columns) == ["image", "label", "probability"]


def test_abstention_and_all_probabilities_have_columns_when_they_are_asked_for():
    rows = Rows(CLASSIFIER, top_k=1, abstain_below=0.7, probabilities=True)
    assert list(rows.columns) == [
        "image",
        "label",
        "probability",
        "abstained",
        *(f"probability_{n}" for n in CLASSIFIER.classes),
    ]
    assert rows.row("x", TOLD) == ["x", None, 0.6, True, 0.1, 0.6, 0.25, 0.05]
    assert rows.labels(rows.row("x", TOLD)) == []
    sure = Rows(CLASSIFIER, top_k=1, abstain_below=0.5)
    assert sure.row("x", TOLD) == ["x", "dog", 0.6, False]


def test_labels_are_joined_and_a_threshold_takes_the_place_of_the_tuned_ones():
    rows = Rows(LABELS)
    assert list(rows.columns) == ["image", "labels", "probability_in", "probability_out"]
    assert rows.row("x", torch.tensor([0.3, 0.95])) == ["x", "in;out", 0.3, 0.95]
    assert rows.labels(rows.row("x", torch.tensor([0.3, 0.95]))) == ["in", "out"]
    assert Rows(LABELS, threshold=0.5).row("x", torch.tensor([0.3, 0.8]))[1] == "out"
    assert rows.row("x", torch.tensor([0.1, 0.8]))[1] == ""
    assert rows.labels(rows.row("x", torch.tensor([0.1, 0.8]))) == []


def test_numbers_have_a_column_each_and_none_hides_the_image():
    rows = Rows(NUMBERS)
    assert list(rows.columns) == ["image", "age", "image_value"]
    assert rows.row("x", torch.tensor([4.25, -1.0])) == ["x", 4.25, -1.0]


@pytest.mark.parametrize(
    ("reading", "options", "rule"),
    [
        (CLASSIFIER, {"top_k": 5}, "top_k must be between 1 and 4, the classes, got 5"),
        (CLASSIFIER, {"top_k": 0}, "top_k must be between 1 and 4"),
        (CLASSIFIER, {"abstain_below": 1.5}, r"abstain_below must be in \[0, 1\], got 1.5"),
        (CLASSIFIER, {"threshold": 0.5}, "threshold=0.5 means nothing here: the model was trained for classification"),
        (LABELS, {"threshold": 2}, r"threshold must be in \[0, 1\], got 2"),
        (LABELS, {"top_k": 1}, "top_k=1 means nothing here"),
        (NUMBERS, {"abstain_below": 0.5}, "abstain_below=0.5 means nothing here"),
        (
            NUMBERS,
            {"probabilities": True},
            "probabilities=true means nothing here: the model was trained for regression",
        ),
    ],
)
def test_what_means_nothing_for_a_task_is_refused(reading, options, rule):
    with pytest.raises(UserError, match=rule):
        Rows(reading, **options)


def test_csv_and_parquet_hold_the_same(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"image": str, "label": str, "probability": float, "abstained": bool}
    lines = [['a,\n"b".png', "ü", 0.123457, False], ["\udcff.png", None, 1e-06, True]]
    for name, kind in (("t.csv", csv_table), ("t.parquet", parquet_table)):
        with kind(tmp_path / name, columns) as table:
            for line in lines:
                table.write(line)
    stored = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert stored == [
        {"image": 'a,\n"b".png', "label": "ü", "probability": 0.123457, "abstained": False},
        {"image": "\\udcff.png", "label": None, "probability": 1e-06, "abstained": True},
    ]
    as_text = [
        {key: "" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for key, v in row.items()}
        for row in stored
    ]
    assert read(tmp_path / "t.csv") == as_text


def test_a_whole_number_of_more_than_64_bits_is_a_double(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    with parquet_table(tmp_path / "t.parquet", {"seed": float}) as table:
        for value in (99999999999999999999, 3, None):
            table.write([value])
    assert parquet.read_table(tmp_path / "t.parquet").to_pydict() == {"seed": [1e20, 3.0, None]}


def test_parquet_is_written_group_by_group(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("ft.inference.tables.GROUP", 3)
    with parquet_table(tmp_path / "t.parquet", {"image": str}) as table:
        for number in range(7):
            table.write([str(number)])
    stored = parquet.ParquetFile(tmp_path / "t.parquet")
    assert [stored.metadata.row_group(at).num_rows for at in range(stored.num_row_groups)] == [3, 3, 1]
    assert stored.read()["image"].to_pylist() == [str(number) for number in range(7)]


@pytest.mark.parametrize("ending", [".safetensors", ".npy", ".parquet"])
def test_embeddings_come_with_their_names(tmp_path, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    embeddings = Embeddings(5)
    embeddings.add(["a", "\udcff"], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    embeddings.add(["c"], torch.tensor([[5.0, 6.0]]))
    paths = embedding_files(tmp_path / f"e{ending}")
    embeddings.save(ending, paths)
    if ending == ".npy":
        rows, names = np.load(paths[0]), json.loads(paths[1].read_text())
    elif ending == ".safetensors":
        with safe_open(paths[0], "np") as stored:
            rows, names = stored.get_tensor("embeddings"), json.loads(stored.metadata()["names"])
    else:
        import pyarrow.parquet

        stored = pyarrow.parquet.read_table(paths[0]).to_pydict()
        rows, names = np.array(stored["embedding"], dtype=np.float32), stored["image"]
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert names == ["a", "\\udcff", "c"]


def test_bad_images_are_left_out_and_listed(tmp_path):
    batches = [
        told(["a"], TOLD[None], ("b", "the file is empty")),
        told([], torch.empty(0, 4), ("\udcff,", "no such file")),
    ]
    place = outputs(tmp_path)
    written = write_predictions(batches, Rows(CLASSIFIER), place, on_bad="skip", num_images=3)
    assert [row["image"] for row in read(place.table)] == ["a"]
    assert read(tmp_path / "p.bad.csv") == [
        {"image": "b", "error": "the file is empty"},
        {"image": "\\udcff,", "error": "no such file"},
    ]
    assert (written.images, len(written.bad), dict(written.labels)) == (1, 2, {"dog": 1})
    again = outputs(tmp_path, overwrite=True)
    write_predictions([told(["a"], TOLD[None])], Rows(CLASSIFIER), again, on_bad="skip", num_images=1)
    assert sorted(os.listdir(tmp_path)) == ["p.csv"], "the list of an earlier run is none of this one's"


@pytest.mark.parametrize("failure", ["bad image", "no image", "Ctrl-C", "crash"])
def test_nothing_is_left_and_nothing_replaced_when_it_does_not_come_to_its_end(tmp_path, failure):
    def batches():
        if failure != "no image":
            yield told(["a"], TOLD[None], features=True)
        if failure == "Ctrl-C":
            raise KeyboardInterrupt
        if failure == "crash":
            raise RuntimeError("device lost")
        yield told([], torch.empty(0, 4), ("b", "the file is empty"))

    (tmp_path / "p.csv").write_text("older")
    rule = {"bad image": "b cannot be read: the file is empty. Mend", "no image": "none of the 1 images can be read"}
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        place = outputs(folder, embeddings=folder / "e.npy", overwrite=True)
        with pytest.raises((UserError, KeyboardInterrupt, RuntimeError), match=rule.get(failure)):
            write_predictions(
                batches(), Rows(CLASSIFIER), place, on_bad="error" if failure == "bad image" else "skip", num_images=2
            )
    assert os.listdir(tmp_path) == ["p.csv"]
    assert (tmp_path / "p.csv").read_text() == "older"


def test_places_that_cannot_be_written_to_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"file/p.csv cannot be written; .*/file: File exists"),
        whole_files([tmp_path / "file" / "p.csv"]),
    ):
        pytest.fail("the block is not entered")
    longest = tmp_path / ("x" * 251 + ".csv")
    with whole_files([longest]) as (fresh,):
        fresh.write_text("whole")
    assert longest.read_text() == "whole"


def test_outputs_are_refused_before_anything_is_computed(tmp_path):
    for name in ("there.csv", "two.bad.csv", "e.names.json"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    for options, rule in (
        ({"name": "p.xlsx"}, r"output=.*p.xlsx must end in one of: csv, parquet"),
        ({"name": "p"}, r"output=.*p must end in one of"),
        ({"name": "there.csv"}, r"there.csv exists\. Name another file, or set overwrite=true"),
        ({"name": "two.csv"}, r"two.bad.csv exists"),
        ({"name": "folder.csv", "overwrite": True}, r"output=.*folder.csv is a folder"),
        ({"embeddings": tmp_path / "e.pt"}, "embeddings=.*e.pt must end in one of: safetensors, npy, parquet"),
        ({"embeddings": tmp_path / "e.npy"}, "embeddings: .*e.names.json exists"),
        ({"name": "there.csv", "given": tmp_path / "there.csv", "overwrite": True}, "there.csv is the input"),
        ({"name": "x.parquet", "embeddings": tmp_path / "x.parquet"}, "x.parquet is the input, or another output"),
    ):
        with pytest.raises(UserError, match=rule):
            outputs(tmp_path, **options)
    assert outputs(tmp_path, "there.csv", overwrite=True).table.name == "there.csv"


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("ft.errors.find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"output=.*p.parquet needs pyarrow: pip install .*\[parquet\]"):
        outputs(tmp_path, "p.parquet")
