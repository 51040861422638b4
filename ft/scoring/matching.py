"""The same images in the same order: runs can only be compared on these."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ft.errors import UserError
from ft.inference.predictions import Predictions

# Settings of the data that have no say in which images are tested.
OF_TRAINING = frozenset(
    {
        *("batch_size", "num_workers", "decoded", "decoded_limit", "suggested"),
        *("limit", "subset_file", "val_subset_file", "class_weights", "balanced"),
    }
)

# The image's name, and how many images of that name are before it.
Key = tuple[str, int]


def match(runs: Mapping[str, Predictions], data: Mapping[str, Mapping[str, Any]]) -> dict[str, Predictions]:
    """All runs' predictions in the order of the first.

    Args:
        runs: Predictions of one split, by the run's name.
        data: Of each run, the section ``data`` of its config; for the message.

    Raises:
        UserError: Task, classes, images or their labels differ; says how many, and which settings do.
    """
    first, *others = runs
    rows = {name: _rows(predictions) for name, predictions in runs.items()}
    ordered = {first: runs[first]}
    for other in others:
        settings = _differing(data[first], data[other])
        _check_classes(first, other, runs, settings)
        _check_images(first, other, rows, settings)
        ordered[other] = _take(runs[other], [rows[other][key] for key in rows[first]])
        _check_labels(first, other, ordered)
    return ordered


def _check_classes(first: str, other: str, runs: Mapping[str, Predictions], settings: str) -> None:
    one, two = runs[first].reading, runs[other].reading
    if one.task != two.task:
        raise UserError(f"runs: {first} is a {one.task} and {other} a {two.task}; compare runs of the same task.")
    if one.classes == two.classes:
        return
    differing = [*_only(one.classes, two.classes), *_only(two.classes, one.classes)]
    told = f"{len(differing)} differ ({_some(differing)})" if differing else "they are in another order"
    raise UserError(
        f"runs: {first} and {other} have different classes: {told}.\n"
        f"Compare runs that were trained on the same data{settings}."
    )


def _check_images(first: str, other: str, rows: Mapping[str, Mapping[Key, int]], settings: str) -> None:
    missing, more = _only(rows[first], rows[other]), _only(rows[other], rows[first])
    if missing or more:
        raise UserError(
            f"runs: {first} and {other} were not scored on the same images: of {len(rows[first])} in {first} "
            f"{len(missing)} are not in {other}, of {len(rows[other])} in {other} {len(more)} are not in {first} "
            f"({_some([name for name, _ in [*missing, *more]])}).\n"
            f"Compare runs that were trained on the same data{settings}."
        )


def _check_labels(first: str, other: str, ordered: Mapping[str, Predictions]) -> None:
    one, two = ordered[first], ordered[other]
    wrong = (one.targets != two.targets).reshape(len(one), -1).any(1).nonzero().flatten().tolist()
    if wrong:
        raise UserError(
            f"runs: {len(wrong)} of {len(one)} images have another label in {other} than in {first} "
            f"({_some([one.names[at] for at in wrong])}).\n"
            f"The data has changed in between: python -m ft.evaluate run=RUN split={one.split} scores a run anew."
        )


def _rows(predictions: Predictions) -> dict[Key, int]:
    """Where each image is. A table may name a file twice: the first of one run is the first of the other."""
    seen: dict[str, int] = {}
    rows: dict[Key, int] = {}
    for row, name in enumerate(predictions.names):
        nth = seen.get(name, 0)
        rows[name, nth], seen[name] = row, nth + 1
    return rows


def _take(predictions: Predictions, rows: list[int]) -> Predictions:
    at = torch.tensor(rows, dtype=torch.long)
    return replace(
        predictions,
        names=tuple(predictions.names[row] for row in rows),
        index=predictions.index[at],
        targets=predictions.targets[at],
        logits=predictions.logits[at],
    )


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    keys = [key for key in {**one, **two} if key not in OF_TRAINING and one.get(key) != two.get(key)]
    told = [f"data{'' if key == '_target_' else f'.{key}'}" for key in keys]
    return f"; theirs differ in {', '.join(told)}" if told else ""


def _only(these: Any, those: Any) -> list[Any]:
    without = set(those)
    return [each for each in these if each not in without]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
