"""Predictions whose truth is known."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ft.inference.predictions import Predictions
from ft.inference.reading import Reading


def predictions(
    task: str, activation: str, targets: Tensor, logits: Tensor, *, names: Sequence[str] = (), **reading
) -> Predictions:
    """Of split ``test``, with classes ``c0, c1, ...`` and images ``0.jpg, 1.jpg, ...``."""
    classes = tuple(f"c{at}" for at in range(logits.shape[1]))
    chosen = tuple(names or (f"{at}.jpg" for at in range(len(logits))))
    return Predictions(
        "test", Reading(task, classes, activation, **reading), chosen, torch.arange(len(logits)), targets, logits
    )


def classified(num_images: int, num_classes: int, *, skill: float = 2.0, seed: int = 0, **reading) -> Predictions:
    """Random logits, with ``skill`` added at the right class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(num_classes, (num_images,), generator=generator)
    logits = torch.randn(num_images, num_classes, generator=generator)
    logits[torch.arange(num_images), targets] += skill
    return predictions("classification", "softmax", targets, logits, **reading)


def labelled(num_images: int, num_labels: int, *, seed: int = 0, **reading) -> Predictions:
    """Labels of which a third is there, and rounded logits: many ties."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(num_images, num_labels, generator=generator) < 0.33).float()
    logits = (2 * targets - 1 + 1.5 * torch.randn(num_images, num_labels, generator=generator)).round(decimals=1)
    return predictions("multilabel", "sigmoid", targets, logits, **reading)


def measured(num_images: int, num_outputs: int, *, seed: int = 0) -> Predictions:
    """Numbers far from zero, predicted with an error of a half."""
    generator = torch.Generator().manual_seed(seed)
    targets = 300 + torch.randn(num_images, num_outputs, generator=generator)
    logits = (targets + 0.5 * torch.randn(num_images, num_outputs, generator=generator) - 290) / 2
    mean, std = (290.0,) * num_outputs, (2.0,) * num_outputs
    return predictions("regression", "linear", targets, logits, mean=mean, std=std)


def with_hits(right: Tensor) -> Predictions:
    """Two classes in turn; sure of the right one where ``right`` ``(N,)`` is true, and of the other where not."""
    targets = torch.arange(len(right)) % 2
    chosen = torch.where(right, targets, 1 - targets)
    return predictions("classification", "softmax", targets, 4.0 * torch.nn.functional.one_hot(chosen, 2))
