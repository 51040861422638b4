"""``python -m ft.evaluate``: intervals and rows per class beside what was there."""

import json

import pytest

from ft.errors import UserError
from ft.evaluate import evaluate
from ft.inference.predictions import Predictions
from ft.results.evaluation import Evaluated
from tests.conftest import composed
from tests.results.made import labelled, measured


def test_an_evaluation_says_how_sure_it_is(train_run, capsys):
    run = train_run()
    capsys.readouterr()
    with composed(f"run='{run.folder.path}'", "accelerator=cpu", "resamples=200", config="evaluate") as config:
        evaluate(config)
    shown = capsys.readouterr().out
    written = json.loads((run.folder.path / "evaluation_test.json").read_text())
    assert (written["checkpoint"], written["resamples"], written["seed"]) == ("best", 200, 0)
    for name in ("acc", "f1", "auroc"):
        each = written["intervals"][name]
        assert each["value"] == pytest.approx(written[f"test/{name}"], abs=1e-6)
        assert each["low"] <= each["value"] <= each["high"]
        assert f"{each['value']:.4f}   95 %: {each['low']:.4f} to {each['high']:.4f}" in shown
    assert [row["recall"] for row in written["rows"]] == pytest.approx(written["per_class"]["acc"], abs=1e-6)
    assert [row["f1"] for row in written["rows"]] == pytest.approx(written["per_class"]["f1"], abs=1e-6)
    assert sum(row["support"] for row in written["rows"]) == written["images"] == len(run.data.splits["test"].names)
    stored = Predictions.load(run.folder.path, "test")
    assert written["calibration"]["temperature"] == stored.reading.temperature
    assert written["intervals"]["ece"]["value"] == pytest.approx(written["calibration"]["ece_after"], abs=1e-9)
    assert f"written: {run.folder.path}" in shown
    for override, told in (("resamples=20", "resamples must be at least 100, got 20"), ("seed=-1", "seed must be at")):
        with (
            composed(f"run='{run.folder.path}'", override, config="evaluate") as config,
            pytest.raises(UserError, match=told),
        ):
            evaluate(config)


@pytest.mark.parametrize(
    ("task", "kind", "names"),
    [("multilabel", "labels", {"f1", "exact"}), ("regression", "values", {"mae", "rmse", "r2"})],
)
def test_intervals_of_other_tasks_are_around_what_training_logs(train_run, capsys, task, kind, names):
    run = train_run(f"task={task}", f"data.kind={kind}", "trainer.max_epochs=1", "data.num_images=60")
    tested = json.loads(run.folder.summary.read_text())
    with composed(f"run='{run.folder.path}'", "accelerator=cpu", "resamples=100", config="evaluate") as config:
        evaluate(config)
    written = json.loads((run.folder.path / "evaluation_test.json").read_text())
    for name in names:
        assert written["intervals"][name]["value"] == pytest.approx(tested[f"test/{name}"], abs=1e-5)
    assert [row["name"] for row in written["rows"]] == (written["classes"] if task == "multilabel" else [])
    if task == "multilabel":
        # Every shape is red: no image could be ranked below another by that.
        assert 0 in [row["support"] for row in written["rows"]]
        assert written["intervals"]["map"]["value"] > tested["test/map"] + 0.01
        assert f"({tested['test/map']:.4f} if classes that cannot be ranked here count 0)" in capsys.readouterr().out


def test_what_the_task_found_per_class_besides_stays_in_the_table():
    found = Evaluated.of(labelled(60, 3, thresholds=(0.5, 0.5, 0.5)), seed=0, resamples=100)
    cells = found.class_cells({"ap": [0.1, 0.2, 0.3], "f1": [0.0, 0.0, 0.0]})
    assert list(cells) == ["images", "precision", "recall", "95 % of recall", "f1", "ap"]
    assert cells["ap"] == [0.1, 0.2, 0.3]
    assert cells["f1"] == [row.f1 for row in found.rows]


def test_numbers_have_intervals_and_no_rows():
    found = Evaluated.of(measured(60, 2), seed=0, resamples=100)
    assert found.class_cells({}) == {}
    assert found.as_dict()["calibration"] == {}
    shown = found.metric_cells({"test/loss": 0.25, "test/mae": 0.4})
    assert shown["test/loss"] == 0.25
    assert "95 %:" in str(shown["test/mae"])
    json.dumps(found.as_dict(), allow_nan=False)
