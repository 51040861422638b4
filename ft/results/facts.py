"""What a run was: its settings, versions, weights, time; and its data set as the doctor and the labels have it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ft import plain_files
from ft.inference.material import Material
from ft.page.words import duration_in_words
from ft.results.thumbnails import sheet

# Groups of the config in the order in which a reader asks for them.
GROUPS = ("model", "data", "task", "optimizer", "schedule", "recipe", "plugins", "trainer", "cache")
# Of a finding, so many items are listed; doctor.json has all.
MOST_ITEMS = 12


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is not there.

    Raises:
        UserError: The file is damaged.
    """
    if not file.is_file():
        return {}
    return plain_files.read_json(file)


def overview(material: Material) -> dict[str, str]:
    """Name to value: what a reader wants to know first."""
    config, summary = material.config, read_json(material.run / "summary.json")
    choices = config["choices"]
    spec = material.predictor.spec
    total = sum(parameter.numel() for parameter in material.predictor.model.parameters())
    rows = {
        "model": f"{material.predictor.card['backbone']}, {total:,} parameters",
        "weights": str(material.predictor.card["weights"]),
        "input": f"{spec.width} x {spec.height} pixels, {spec.interpolation}, crop {spec.crop_pct:g}",
        "data": str(config["data"].get("root") or config["data"].get("csv_file") or choices.get("data")),
        "recipe": str(config["recipe"]["name"]),
        "optimizer": f"{choices.get('optimizer')}, lr {config['optimizer']['lr']:g}",
        "batch": f"{config['data']['batch_size']} images",
        "plugins": ", ".join(config["plugins"]) or "none",
    }
    if summary:
        rows["epochs"] = f"{summary['epochs']}, the best of them {best_in_words(summary['best_epoch'])}"
        rows["time"] = f"{duration_in_words(summary['seconds'])}, start-up and test included"
        rows["throughput"] = f"{summary['images_per_second']:,.0f} training images/s"
        rows["status"] = str(summary["status"])
        if summary["bad_images"]:
            rows["bad images"] = f"{summary['bad_images']}, listed in bad_images.json"
    rows["seed"] = str(config["seed"])
    return rows


def best_in_words(epoch: int | None) -> str:
    """Of ``best_epoch``, which counts from 0; below it the solved head was the best."""
    return "none" if epoch is None else "the solved head, before the first" if epoch < 0 else str(epoch + 1)


def versions(run: Path) -> dict[str, str]:
    """Package to version, of the best checkpoint."""
    return dict(read_json(run / "checkpoints" / "best" / "manifest.json").get("versions", {}))


def settings(config: Mapping[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """Group, its choice, and its values with dotted names."""
    found = []
    for group in GROUPS:
        values = config.get(group)
        if isinstance(values, Mapping) and values:
            choice = config["choices"].get(group)
            found.append((group, "" if choice is None else str(choice), dict(_flat(values))))
    rest = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    return [("run", "", {key: _in_words(value) for key, value in rest.items()}), *found]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", _in_words(value)))
    return found


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def class_counts(material: Material) -> dict[str, list[int]]:
    """Split to how many images each class or label has; no splits where there are only numbers."""
    reading = material.predictor.reading
    targets: dict[str, Tensor] = {name: found.targets for name, found in material.predictions.items()}
    if material.pictures is not None:
        targets |= {name: split.targets for name, split in material.pictures.splits.items()}
    if reading.task == "regression":
        return {}
    order = [name for name in ("train", "val", "test") if name in targets]
    return {name: _counts(targets[name], len(reading.classes)) for name in order}


def split_sizes(material: Material) -> dict[str, int]:
    """Split to its number of images, as far as it is known."""
    sizes = {name: len(found) for name, found in material.predictions.items()}
    if material.pictures is not None:
        sizes |= {name: len(split.targets) for name, split in material.pictures.splits.items()}
    return {name: sizes[name] for name in ("train", "val", "test") if name in sizes}


def _counts(targets: Tensor, num_classes: int) -> list[int]:
    counts = targets.bincount(minlength=num_classes) if targets.ndim == 1 else (targets > 0).sum(0)
    return [int(count) for count in counts]


def findings(run: Path) -> dict[str, Any] | None:
    """What ``python -m ft.doctor run=RUN`` has found, in the words of the page; ``None`` where it was not asked."""
    found = read_json(run / "doctor.json")
    if not found:
        return None
    listed = [
        {
            **{key: each[key] for key in ("severity", "title", "count")},
            "items": [_item(item) for item in each["items"][:MOST_ITEMS]],
        }
        for each in found["findings"]
    ]
    return {
        "findings": listed,
        "skipped": found["skipped"],
        "pictures": {name: sheet(run / file) for name, file in found["pictures"].items() if (run / file).is_file()},
    }


def _item(item: Mapping[str, Any]) -> str:
    """One line: files with their labels, then what else is known."""
    files = item.get("files") or [item.get("example") or item] if {"files", "file", "example"} & set(item) else []
    named = [_file(file) for file in files]
    told = ("files", "file", "split", "label", "example")
    rest = [f"{key} {value}" for key, value in item.items() if key not in (told if files else ("files",))]
    return ", ".join([" = ".join(named), *rest] if named else rest)


def _file(file: Mapping[str, Any]) -> str:
    """Its name, with the split in front where the name does not say it, and its label."""
    name, split, label = str(file["file"]), file.get("split"), file.get("label")
    where = f"{split}/" if split and not name.startswith(f"{split}/") else ""
    return f"{where}{name}" + ("" if label is None else f" ({label})")
