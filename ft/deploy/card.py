"""The model card, ``README.md`` as the Hugging Face hub wants it: what it is, how good, how to use it, whose it is."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ft.deploy.check import Check
from ft.deploy.folder import UINT8, Description
from ft.deploy.snippet import snippet
from ft.inference.reading import LINEAR

LIBRARIES = {"timm": "timm", "onnx": "onnx", "pt2": "pytorch"}
# Our metric -> the hub's name of it, where it has one.
METRICS: dict[str, str] = {"acc": "accuracy", "auroc": "roc_auc", "map": "mean_average_precision", "r2": "r_squared"}
TASK = "image-classification"


def write_card(file: Path, description: Description, *, address: str | None) -> None:
    """Writes the card.

    Args:
        file: Where to.
        description: Of the export, checked.
        address: The repository on the hub that it is pushed to, if any.
    """
    header = _header(description, address).to_yaml()
    ModelCard(f"---\n{header}\n---\n\n{_body(description, address)}").save(file)


def _header(description: Description, address: str | None) -> ModelCardData:
    card, metrics = description.card, description.card.get("metrics", {})
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=_slug(card["data"]),
            dataset_name=str(card["data"]),
            dataset_split=metrics["split"],
            metric_type=str(METRICS.get(name, name)),
            metric_name=_with_interval(name, found),
            metric_value=round(found["value"], 6),
        )
        for name, found in metrics.get("values", {}).items()
    ]
    return ModelCardData(
        license=card.get("license"),
        library_name=LIBRARIES[description.format],
        pipeline_tag=TASK,
        tags=[TASK, card["backbone"], *(["timm"] if description.format == "timm" else [])],
        base_model=card.get("base_model"),
        model_name=_name(description, address),
        eval_results=results or None,
    )


def _body(description: Description, address: str | None) -> str:
    card, reading, spec = description.card, description.reading, description.spec
    check = Check(**description.check)
    kind = {"multilabel": "labels", "regression": "numbers"}.get(reading.task, "classes")
    classes = ", ".join(f"`{name}`" for name in reading.classes)
    counts = ", ".join(f"{name} {count:,}" for name, count in card.get("splits", {}).items())
    sides = f"{int(spec.width / spec.crop_pct)} x {int(spec.height / spec.crop_pct)}"
    takes = (
        "the crop as `uint8`; scale, mean and std are inside"
        if description.preprocess == UINT8
        else (f"floats: `(pixels / 255 - mean) / std` with mean {_numbers(spec.mean)} and std {_numbers(spec.std)}")
    )
    sections = [
        f"# {_name(description, address)}",
        f"`{card['backbone']}`, fine-tuned for {reading.task} on the data set `{card['data']}`"
        f"{f' ({counts} images)' if counts else ''}. Exported as {description.format}.",
        f"## {kind.capitalize()}\n\n{len(reading.classes)}: {classes}",
        f"## Results\n\n{_results(card.get('metrics', {}))}",
        f"## Use\n\nIn this folder, with a picture `photo.jpg`:\n\n```python\n{snippet(description, address)}\n```",
        f"## What comes out\n\n{_outputs(description)}",
        f"## Preprocessing\n\n"
        f"1. Turn the picture upright as its EXIF orientation says, and convert it to {spec.pillow_mode}.\n"
        f"2. Resize it with {spec.interpolation} resampling (Pillow's), keeping its shape, so that it just covers "
        f"{sides} pixels.\n"
        f"3. Crop the central {spec.width} x {spec.height} pixels.\n"
        f"4. The model takes `(N, {spec.channels}, {spec.height}, {spec.width})`, {takes}.{_rounding(description)}",
        f"## Checked\n\n{str(check)[0].upper()}{str(check)[1:]}, compared with the trained model.",
        f"## Origin and licence\n\n{_origin(card)}",
    ]
    return "\n\n".join(sections) + "\n"


def _rounding(description: Description) -> str:
    """timm takes ``int(side * long / short)`` and ``round(margin / 2)``; we ``round`` and take ``margin // 2``."""
    if description.format != "timm":
        return ""
    return (
        "\n\ntimm's own transform, used above, does the same but for two roundings: the resized longer side goes down "
        "instead of to the nearest pixel, and half of an odd margin to the even number instead of down. Where these "
        "differ, its crop lies up to a pixel aside and probabilities move a little; elsewhere the pixels are the same."
    )


def _results(metrics: dict[str, Any]) -> str:
    values = metrics.get("values", {})
    if not values:
        return "Not evaluated."
    rows = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for name, found in values.items():
        interval = f"{found['low']:.4f} to {found['high']:.4f}" if "low" in found else "unknown"
        rows.append(f"| {name} | {found['value']:.4f} | {interval} |")
    on = f"On {metrics['images']:,} images of" if metrics.get("images") else "On"
    return f"{on} the {metrics['split']} split; intervals by bootstrap over images.\n\n" + "\n".join(rows)


def _outputs(description: Description) -> str:
    reading = description.reading
    if reading.activation == LINEAR:
        return "The predicted numbers, in the data's own unit."
    told = f"`(N, {len(reading.classes)})` logits; their {reading.activation} gives probabilities"
    if reading.temperature != 1:
        told += f" that are calibrated once the logits are divided by the temperature {reading.temperature}"
    if reading.thresholds:
        pairs = ", ".join(
            f"`{name}` {value:g}" for name, value in zip(reading.classes, reading.thresholds, strict=True)
        )
        told += f". A label is there from these probabilities on: {pairs}"
    return told + "."


def _origin(card: dict[str, Any]) -> str:
    lines = [f"- Weights that training started from: {card['weights']}"]
    if card.get("origin_url"):
        lines.append(f"- Their origin: {card['origin_url']}")
    licence = card.get("license")
    lines.append(f"- Licence: {licence}" if licence else "- Licence: not stated by the weights; ask their authors")
    lines.append(f"- Training run: `{card['run']}`")
    return "\n".join(lines)


def _with_interval(name: str, found: dict[str, float]) -> str:
    return f"{name} (95 % interval {found['low']:.4f} to {found['high']:.4f})" if "low" in found else name


def _name(description: Description, address: str | None) -> str:
    return (
        address.rpartition("/")[2] if address else f"{description.card['backbone']}-{_slug(description.card['data'])}"
    )


def _slug(name: Any) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "-", str(name).lower()).strip("-") or "data"


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
