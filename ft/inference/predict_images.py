"""A few images in memory to what the user is told, in the words that CSV, server and report share.

pixels -> predictor.run -> reading.tell -> describe

classification   {"label": "cat", "probability": 0.93, "top_k": [{"label": "cat", "probability": 0.93}, ...]}
multilabel       {"labels": ["cat", "indoors"], "probabilities": {"cat": 0.93, "dog": 0.02, "indoors": 0.71}}
regression       {"values": {"age": 4.25}}
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ft.inference.predictor import Predictor
from ft.inference.reading import Reading

# Of a classifier's answer, where nobody says otherwise.
TOP_K = 3
# What single precision can tell apart; more digits would differ from one machine to the next.
PROBABILITY_DECIMALS, VALUE_DIGITS = 6, 7


def pixels(predictor: Predictor, image: Image.Image) -> Tensor:
    """``(C, H, W)`` ``uint8``: the image as validation saw it."""
    return predictor.transform(image)


def predict_images(predictor: Predictor, images: Sequence[Image.Image]) -> Tensor:
    """One batch of images to ``(N, K)`` probabilities after temperature, or the predicted numbers.

    The caller chooses ``N``: all of them are in memory at once. Images of any mode and size; no image gives ``(0, K)``.
    """
    if not images:
        return torch.empty(0, len(predictor.reading.classes))
    return predictor.reading.tell(predictor.run(torch.stack([pixels(predictor, image) for image in images])))


def describe(
    reading: Reading, told: Tensor, top_k: int | None = None, *, abstain_below: float | None = None
) -> dict[str, Any]:
    """What is said of one image, as plain values for JSON; probabilities with six decimals.

    Args:
        reading: Of the predictor.
        told: ``(K,)``, a row of ``predict_images``.
        top_k: How many classes a classifier names, the likeliest first; ``None``: 3, or all where there are fewer.
        abstain_below: A classifier says no label (``None``) below this probability, and ``abstained`` whether it did.
    """
    names = reading.classes
    if reading.task == "regression":
        return {"values": {name: float(f"{value:.{VALUE_DIGITS}g}") for name, value in _named(names, told)}}
    rounded = [round(value, PROBABILITY_DECIMALS) for value in told.tolist()]
    if reading.task == "multilabel":
        there = reading.labels(told[None])[0].tolist()
        return {
            "labels": [name for name, is_there in zip(names, there, strict=True) if is_there],
            "probabilities": dict(zip(names, rounded, strict=True)),
        }
    # Of equal ones the first class, as argmax says.
    order = told.sort(descending=True, stable=True).indices[: TOP_K if top_k is None else top_k].tolist()
    best = [{"label": names[at], "probability": rounded[at]} for at in order]
    said = {**best[0], "top_k": best}
    if abstain_below is None:
        return said
    abstained = float(told[order[0]]) < abstain_below
    return {**said, "label": None if abstained else said["label"], "abstained": abstained}


def _named(names: Sequence[str], told: Tensor) -> list[tuple[str, float]]:
    return list(zip(names, told.tolist(), strict=True))
