"""The model card: what the hub reads at its top, and what people read below."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ft.build.sample import data_name
from ft.deploy.check import Check
from ft.deploy.facts import card_facts, stored_metrics, stored_test
from ft.deploy.snippet import snippet
from ft.deploy.write import write_card
from ft.inference.predictor import Predictor
from ft.input_spec import InputSpec
from ft.run_folder import RunFolder
from ft.scoring.intervals import intervals
from tests.deploy.made import described, reading_of

SPEC = InputSpec(32, 24, (0.5,) * 3, (0.25,) * 3, "bilinear", 0.8)
CHECK = Check(64, "val", 1e-6, 10.0, 1e-3, 1.0, "timm 1").as_dict()
FACTS = {
    "backbone": "resnet18",
    "weights": "hub: timm/resnet18.a1_in1k",
    "license": "apache-2.0",
    "base_model": "timm/resnet18.a1_in1k",
    "origin_url": "https://example.org/weights",
    "run": "2026",
    "data": "My Photos",
    "splits": {"train": 1200, "test": 431},
    "metrics": {"split": "test", "images": 431, "values": {"acc": {"value": 0.9123456789, "low": 0.88, "high": 0.94}}},
}


def card_of(folder: Path, **changes) -> ModelCard:
    reading = changes.pop("reading", reading_of("classification", 3))
    description = described("timm", SPEC, reading, card={**FACTS, **changes.pop("card", {})}, check=CHECK, **changes)
    write_card(folder / "README.md", description, address=None)
    return ModelCard.load(folder / "README.md")


def test_the_hub_reads_licence_base_model_and_results(tmp_path):
    data = card_of(tmp_path).data
    assert (data.license, data.base_model, data.library_name) == ("apache-2.0", "timm/resnet18.a1_in1k", "timm")
    assert data.pipeline_tag == "image-classification"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.912346)
    assert result.metric_name == "acc (95 % interval 0.8800 to 0.9400)"
    assert (result.dataset_name, result.dataset_type, result.dataset_split) == ("My Photos", "my-photos", "test")


def test_people_read_data_results_preprocessing_and_origin(tmp_path):
    text = card_of(tmp_path).text
    for part in (
        "`name 0`, `name 1`, `name 2`",
        "train 1,200, test 431 images",
        "| acc | 0.9123 | 0.8800 to 0.9400 |",
        "On 431 images of the test split",
        "just covers 30 x 40 pixels",
        "central 24 x 32 pixels",
        "mean (0.5, 0.5, 0.5) and std (0.25, 0.25, 0.25)",
        "64 images of val in timm 1: largest difference 1e-06",
        "Licence: apache-2.0",
        "https://example.org/weights",
    ):
        assert part in text


def test_what_is_not_known_is_said_to_be_unknown(tmp_path):
    card = card_of(tmp_path, card={"metrics": {}, "license": None, "base_model": None, "origin_url": None})
    assert card.data.license is None
    assert card.data.eval_results is None
    assert "Not evaluated." in card.text
    assert "Licence: not stated by the weights" in card.text


def test_thresholds_and_a_stored_temperature_are_told(tmp_path):
    labels = reading_of("multilabel", 2, temperature=1.5, thresholds=(0.25, 0.75))
    text = card_of(tmp_path, reading=labels).text
    assert "divided by the temperature 1.5" in text
    assert "`name 0` 0.25, `name 1` 0.75" in text
    assert "(model(image) / 1.5).sigmoid()" in text


@pytest.mark.parametrize("format", ["timm", "onnx", "pt2"])
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("preprocess", ["normalized", "uint8"])
def test_every_program_is_python_and_four_lines_load(format, task, preprocess):
    program = snippet(described(format, SPEC, reading_of(task, 2), preprocess=preprocess), None)
    compile(program, "card", "exec")
    assert "ft" not in program.replace("left", "").replace("softmax", "")
    assert ("mean =" in program) == (format != "timm" and preprocess == "normalized")
    assert len([line for line in program.splitlines() if "model" in line or "session" in line]) <= 4


def predictor_with(weights: str) -> Predictor:
    facts = {"backbone": "resnet18", "weights": weights, "run": "2026"}
    return Predictor(SPEC, reading_of("classification", 3), lambda pixels: pixels, None, None, "run", facts)


def facts_of(weights: str, folder: RunFolder, **changes):
    given = {"data": "photos", "license": None, "counts": {}, "intervals": {}, "test": None, **changes}
    return card_facts(predictor_with(weights), folder, **given)


def test_no_path_of_the_machine_is_told(trained):
    facts = facts_of("file: /home/somebody/secret/net.safetensors", trained)
    assert facts["weights"] == "file: net.safetensors"
    assert facts["base_model"] is None
    assert facts_of("hub: timm/resnet18.a1_in1k", trained)["base_model"] == "timm/resnet18.a1_in1k"
    assert facts_of("random", trained, license="mit")["license"] == "mit"


def test_metrics_come_with_intervals_from_predictions_and_without_from_what_is_written(trained, tmp_path):
    test = stored_test(trained)
    sure = {name: each.as_dict() for name, each in intervals(test).items()}
    metrics = facts_of("random", trained, test=test, intervals=sure)["metrics"]
    assert metrics["images"] == len(test)
    assert metrics["values"]["acc"]["low"] <= metrics["values"]["acc"]["value"] <= metrics["values"]["acc"]["high"]
    written = stored_metrics(trained)
    assert written["acc"]["value"] == pytest.approx(metrics["values"]["acc"]["value"])
    assert "loss" not in written
    assert stored_test(RunFolder(tmp_path)) is None
    assert facts_of("random", RunFolder(tmp_path))["metrics"] == {}


def test_a_folder_of_the_users_own_gives_the_data_its_name(trained, photos):
    assert data_name(trained) == photos.stem
