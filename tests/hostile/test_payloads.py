"""Payloads against every path that loads something: nothing runs, and the answer is one to three lines.

``ft.predict``, ``ft.export``, ``ft.serve``, ``ft.evaluate``, ``ft.report``, ``ft.compare`` and ``ft.doctor`` read a run
folder through ``load_predictor``, ``stored_config`` and ``Predictions.load``, and an export through ``load_exported``;
resuming and ``model.weights`` have their own ways in, and so have sweeps and caches.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm

from ft.build.trained import load_predictor, stored_config
from ft.cache import activations
from ft.cache import folder as cache
from ft.checkpoint.load import load
from ft.checkpoint.manifest import MANIFEST, STATE, WEIGHTS, describe, read_manifest, rendered, sealed
from ft.data.only_arrays import load as load_arrays
from ft.deploy.load import load_exported
from ft.errors import UserError
from ft.inference.predictions import Predictions
from ft.input_spec import InputSpec
from ft.job_folder import JobFolder
from ft.model.weight_files import read_weights
from ft.model.weights import Weights
from ft.run_folder import RunFolder
from ft.sweeps.backbones.looks import HELD_OUT, difference_error
from ft.sweeps.folder import SweepFolder
from ft.sweeps.report.material import Material
from tests.deploy.made import described, reading_of
from tests.hostile.payloads import BINARY, JSON, YAML, Evaluates, Runs

Reads = Callable[[bytes, RunFolder, Path], Any]
SPEC = InputSpec(32, 32, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)


def refused(read: Callable[[], Any]) -> str:
    """The message of the refusal."""
    with pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert 1 <= len(message.splitlines()) <= 3, message
    assert "Traceback" not in message
    return message


def copied(run: RunFolder, place: Path) -> RunFolder:
    folder = RunFolder(place / "copied")
    shutil.copytree(run.path, folder.path, symlinks=True)
    return folder


def in_checkpoint(name: str) -> Reads:
    def read(payload: bytes, run: RunFolder, place: Path) -> Any:
        folder = copied(run, place)
        (folder.last / name).unlink()
        (folder.last / name).write_bytes(payload)
        manifest = read_manifest(folder.last)
        manifest["files"][name] = describe(folder.last / name)
        (folder.last / MANIFEST).unlink()
        (folder.last / MANIFEST).write_bytes(rendered(sealed(manifest)))
        return load(folder.last)

    return read


def as_weights(name: str) -> Reads:
    def read(payload: bytes, run: RunFolder, place: Path) -> Any:
        (place / name).write_bytes(payload)
        return read_weights(Weights("file", name, place / name), timm.create_model("test_resnet"))

    return read


def as_export(format: str, name: str) -> Reads:
    def read(payload: bytes, run: RunFolder, place: Path) -> Any:
        folder = place / "export"
        folder.mkdir()
        (folder / name).write_bytes(payload)
        if format == "timm":
            (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 3}))
        described(format, SPEC, reading_of("classification", 3)).save(folder)
        return load_exported(folder)

    return read


def as_predictions(payload: bytes, run: RunFolder, place: Path) -> Any:
    (place / "predictions").mkdir()
    (place / "predictions" / "test.safetensors").write_bytes(payload)
    return Predictions.load(place, "test")


def as_held_out(payload: bytes, run: RunFolder, place: Path) -> Any:
    (place / HELD_OUT).write_bytes(payload)
    return difference_error(JobFolder(place), JobFolder(place))


def as_study(payload: bytes, run: RunFolder, place: Path) -> Any:
    pytest.importorskip("optuna")
    from ft.trial_storage import open_storage

    (place / "study.db").write_bytes(payload)
    return open_storage(f"sqlite:///{place}/study.db", patience=0.1).get_all_studies()


PATHS: dict[str, Reads] = {
    "resume: state.pt": in_checkpoint(STATE),
    "resume: weights.safetensors": in_checkpoint(WEIGHTS),
    "model.weights=x.pth": as_weights("x.pth"),
    "model.weights=x.bin": as_weights("x.bin"),
    "model.weights=x.safetensors": as_weights("x.safetensors"),
    "export: timm": as_export("timm", "model.safetensors"),
    "export: onnx": as_export("onnx", "model.onnx"),
    "export: pt2": as_export("pt2", "model.pt2"),
    "report: predictions": as_predictions,
    "sweep: held_out.npz": as_held_out,
    "sweep: study.db": as_study,
}
# A new database; it is no payload.
HARMLESS = {("empty", "sweep: study.db")}


# One of each family; the others in the full tier.
QUICK = (
    "pickle, protocol 2",
    "eval",
    "torch zip",
    "torch legacy",
    "torchscript",
    "npz of objects",
    "safetensors, negative",
)


def kinds() -> list[Any]:
    return [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.full) for kind in BINARY]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", kinds())
def test_a_payload_in_place_of_a_binary_file_never_runs(kind, path, a_run, tmp_path, marker):
    if path == "export: onnx":
        pytest.importorskip("onnxruntime")
    payload = BINARY[kind](marker)
    if (kind, path) in HARMLESS:
        PATHS[path](payload, a_run, tmp_path)
    else:
        refused(lambda: PATHS[path](payload, a_run, tmp_path))
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("payload", [Runs, Evaluates])
def test_the_payloads_would_run_if_somebody_unpickled_them(payload, tmp_path):
    pickle.loads(pickle.dumps(payload(tmp_path / "ran")))
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("kind", YAML)
def test_a_payload_in_a_runs_config_never_runs(kind, a_run, tmp_path, marker):
    folder = copied(a_run, tmp_path)
    folder.config.write_text(YAML[kind](marker), encoding="utf-8")
    assert "config.yaml" in refused(lambda: load_predictor(folder))
    assert "config.yaml" in refused(lambda: stored_config(folder))


@pytest.mark.parametrize(
    "value",
    ["${oc.env:HOME}", "${oc.create:{a:1}}", "${seed}", "x${mine:x}y", "???"],
)
@pytest.mark.parametrize("key", ["model.name", "data.num_images"])
def test_a_runs_config_resolves_nothing(value, key, a_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/the/secret")
    folder = copied(a_run, tmp_path)
    lines = folder.config.read_text(encoding="utf-8").splitlines()
    section, _, leaf = key.partition(".")
    start = lines.index(f"{section}:")
    line = next(at for at in range(start, len(lines)) if lines[at].startswith(f"  {leaf}:"))
    lines[line] = f"  {leaf}: {json.dumps(value)}"
    folder.config.write_text("\n".join(lines), encoding="utf-8")
    message = refused(lambda: stored_config(folder))
    assert key in message
    assert "the/secret" not in message


@pytest.mark.parametrize("name", ["classes.json", "reading.json", "summary.json"])
@pytest.mark.parametrize(
    "kind", [kind if kind in ("deep", "a list") else pytest.param(kind, marks=pytest.mark.full) for kind in JSON]
)
def test_a_payload_in_a_runs_json_never_runs(kind, name, a_run, tmp_path, marker):
    folder = copied(a_run, tmp_path)
    (folder.path / name).write_text(JSON[kind](marker), encoding="utf-8")
    if (kind, name) == ("other keys", "summary.json"):
        load_predictor(folder)
    else:
        assert name in refused(lambda: load_predictor(folder))


@pytest.mark.parametrize("kind", JSON)
def test_a_payload_in_an_exports_description_never_runs(kind, tmp_path, marker):
    (tmp_path / "ft.json").write_text(JSON[kind](marker), encoding="utf-8")
    assert "ft.json" in refused(lambda: load_exported(tmp_path)) or "was exported as" in refused(
        lambda: load_exported(tmp_path)
    )


@pytest.mark.parametrize("kind", YAML)
def test_a_payload_in_a_sweeps_words_never_runs(kind, tmp_path, marker):
    (tmp_path / "sweep.yaml").write_text(YAML[kind](marker), encoding="utf-8")
    (tmp_path / "trials.json").write_text("[]")
    if kind in ("a bomb of aliases", "another config"):
        assert SweepFolder(tmp_path).asked()  # references, which take no room
    elif not kind.startswith("deep"):  # not too deep for anybody
        refused(SweepFolder(tmp_path).asked)
        refused(lambda: Material.read(tmp_path))


@pytest.mark.parametrize("kind", JSON)
def test_a_payload_in_a_sweeps_json_never_runs(kind, tmp_path, marker):
    for name in ("job.json", "result.json", "trials.json"):
        (tmp_path / name).write_text(JSON[kind](marker), encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text("metric: val/acc\n")
    refused(JobFolder(tmp_path).job)
    refused(JobFolder(tmp_path).result)
    refused(lambda: Material.read(tmp_path))


@pytest.mark.parametrize("run", ["../../elsewhere", "/etc", "runs/../../x"])
def test_a_trial_whose_run_is_elsewhere_is_refused(run, tmp_path):
    (tmp_path / "sweep.yaml").write_text("metric: val/acc\n")
    rows = [{"number": 0, "params": {}, "jobs": [{"run": run, "seed": 0}]}]
    (tmp_path / "trials.json").write_text(json.dumps(rows))
    refused(lambda: Material.read(tmp_path))


@pytest.mark.parametrize("kind", kinds())
def test_a_payload_in_the_cache_is_no_entry(kind, marker, monkeypatch, tmp_path):
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("about.json", "0.0.bin"):
        place = cache.place("activations", "key")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(BINARY[kind](marker))
    assert cache.read_about(place) == {}
    assert activations.read("key", memory=1e9) is None


@pytest.mark.parametrize("kind", ["pickle, protocol 2", "pickle, protocol 5", "pickle, by hand", "eval"])
def test_cifars_files_hold_arrays_and_nothing_else(kind, tmp_path, marker):
    (tmp_path / "data_batch_1").write_bytes(BINARY[kind](marker))
    with (tmp_path / "data_batch_1").open("rb") as file, pytest.raises(pickle.UnpicklingError, match="arrays only"):
        load_arrays(file, encoding="latin1")


def test_cifars_arrays_come_back(tmp_path):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    # As Python 2 and NumPy 1 wrote them.
    content = pickle.dumps({"data": array, "labels": [1, 2]}, protocol=3).replace(b"numpy._core", b"numpy.core")
    content = content.replace(
        b"C" + bytes([array.size]) + array.tobytes(), b"U" + bytes([array.size]) + array.tobytes()
    )
    (tmp_path / "batch").write_bytes(content)
    with (tmp_path / "batch").open("rb") as file:
        found = load_arrays(file, encoding="latin1")
    assert np.array_equal(found["data"], array)
    assert found["labels"] == [1, 2]
