"""What a model card says, from a run: plain values, and no path of the machine that trained it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft.inference.predictions import FOLDER, Predictions
from ft.inference.predictor import Predictor
from ft.plain_files import read_json
from ft.run_folder import RunFolder


def card_facts(
    predictor: Predictor,
    folder: RunFolder,
    *,
    data: str,
    license: str | None,
    counts: Mapping[str, int],
    intervals: Mapping[str, Mapping[str, float]],
    test: Predictions | None,
) -> dict[str, Any]:
    """The facts of a card.

    Args:
        predictor: Of the run.
        folder: Of the run.
        data: Name of the data set.
        license: As the user says; ``None``: that of the backbone's weights.
        counts: Images of each split.
        intervals: ``value``, ``low`` and ``high`` of each metric of the test split; empty: from what the run has
            written down, without intervals.
        test: What the run says of the test split, where it has kept that.
    """
    trained: Any = getattr(getattr(predictor.model, "backbone", None), "pretrained_cfg", None) or {}
    kind, _, where = str(predictor.card["weights"]).partition(": ")
    known = kind in ("cache", "hub", "package")
    values = {name: dict(found) for name, found in intervals.items()} or stored_metrics(folder)
    return {
        "backbone": predictor.card["backbone"],
        "weights": f"{kind}: {Path(where).name}" if kind in ("file", "folder") else str(predictor.card["weights"]),
        # A file of the user's own may be under any licence.
        "license": license or (trained.get("license") if known else None),
        "base_model": where if kind in ("cache", "hub") else None,
        "origin_url": trained.get("origin_url") if known else None,
        "run": predictor.card["run"],
        "data": data,
        "splits": dict(counts),
        "metrics": {"split": "test", "images": len(test) if test else None, "values": values} if values else {},
    }


def stored_test(folder: RunFolder) -> Predictions | None:
    """What the run says of its test images; ``None`` where it has not kept that."""
    there = (folder.path / FOLDER / "test.safetensors").is_file()
    return Predictions.load(folder.path, "test") if there else None


def stored_metrics(folder: RunFolder) -> dict[str, dict[str, float]]:
    """Metrics of the test split, from the last evaluation, else from the end of training; the loss is none of them."""
    for file in (folder.path / "evaluation_test.json", folder.summary):
        if not file.is_file():
            continue
        content = read_json(file)
        found = {name[len("test/") :]: value for name, value in content.items() if name.startswith("test/")}
        if found:
            return {name: {"value": float(value)} for name, value in found.items() if name != "loss"}
    return {}
