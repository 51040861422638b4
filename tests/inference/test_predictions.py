"""A run keeps what its best checkpoint said of every validation and test image."""

import csv
import json

import pytest
import torch

from ft.build.trained import load_predictor
from ft.errors import UserError
from ft.evaluate import evaluate
from ft.inference.predictions import Predictions
from tests.conftest import composed


def test_a_run_keeps_the_predictions_that_its_metrics_come_from(train_run):
    run = train_run()
    tested = Predictions.load(run.folder.path, "test")
    assert tested.names == tuple(run.data.splits["test"].names)
    assert torch.equal(tested.targets, run.data.splits["test"].targets)
    summary = json.loads(run.folder.summary.read_text())
    assert float((tested.told.argmax(1) == tested.targets).float().mean()) == pytest.approx(
        summary["test/acc"], abs=1e-6
    )
    rows = list(csv.DictReader((run.folder.path / "predictions/test.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == list(tested.names)
    assert all(row["predicted"] in run.module.task.classes for row in rows)
    assert len(Predictions.load(run.folder.path, "val")) == len(run.data.splits["val"].names)


def test_the_predictor_of_a_run_says_the_same_without_its_data(train_run):
    run = train_run()
    predictor = load_predictor(run.folder)
    tested = Predictions.load(run.folder.path, "test")
    images = torch.stack([predictor.transform(run.data.splits["test"].images[at]) for at in tested.index.tolist()])
    assert torch.allclose(predictor.run(images), tested.logits, atol=1e-5)
    assert predictor.reading == tested.reading
    assert predictor.embed is not None
    assert predictor.embed(images).ndim == 2
    assert predictor.card["weights"] == "random"


def test_evaluation_keeps_predictions_of_any_split(train_run):
    run = train_run("test=false")
    with pytest.raises(UserError, match=r"no predictions of its train split: python -m ft.evaluate"):
        Predictions.load(run.folder.path, "train")
    with composed(f"run='{run.folder.path}'", "split=train", config="evaluate") as config:
        evaluate(config)
    assert len(Predictions.load(run.folder.path, "train")) == len(run.data.splits["train"].names)
