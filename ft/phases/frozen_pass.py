"""One pass through the frozen stages: from images, or from what crossed an earlier boundary, to later boundaries."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ft.cache.activations import Stored
from ft.data.batch import Batch
from ft.data.module import VIEW_BATCH, DataModule
from ft.data.randomness import derive_seed
from ft.data.transforms import normalize
from ft.machine.choice import Choice
from ft.plugin import overrides

if TYPE_CHECKING:
    from ft.module import FineTuner


class Crossing(NamedTuple):
    """What a batch of images gives.

    Attributes:
        values: By boundary, one tensor ``(B, ...)`` for each that crosses it; empty where no image could be read.
        positions: ``(B,)`` of the images, in their split.
        failures: Of images that could not be read: position and reason.
    """

    values: dict[str, list[Tensor]]
    positions: Tensor
    failures: tuple[Any, ...]


def from_images(
    module: "FineTuner", data: DataModule, split: str, view: int, stops: Sequence[str], choice: Choice | None
) -> Iterator[Crossing]:
    """From the images of a view, as plugins have them stored.

    Args:
        module: In eval mode.
        data: Its images.
        split: Which of them.
        view: 0 is the plain image.
        stops: Boundaries, from the stem to the head.
        choice: Of threads and workers.
    """
    if choice is not None:
        torch.set_num_threads(choice.frozen_threads)
    transform = data.train_transform if view else data.eval_transform
    workers = None if choice is None else choice.frozen_workers
    run = _between(module.model, stops)
    for number, batch in enumerate(data.view_loader(split, view, transform, num_workers=workers)):
        values = _listed(run(_pixels(module, batch, view, number))) if len(batch.index) else {}
        yield Crossing(values, batch.index, batch.failures)


def from_stored(module: "FineTuner", stored: Stored, start: str, stops: Sequence[str]) -> Iterator[Crossing] | None:
    """From what crossed an earlier boundary; ``None`` where the model has no such part.

    Args:
        module: In eval mode.
        stored: At ``start``.
        start: A boundary before all of ``stops``.
        stops: From the stem to the head.
    """
    run = module.model.between(start, stops) if hasattr(module.model, "between") else None
    return None if run is None else _walk(module, stored, run)


def _walk(module: "FineTuner", stored: Stored, run: Callable[[Any], dict[str, Any]]) -> Iterator[Crossing]:
    readable = (stored.row >= 0).nonzero().flatten()
    order = readable[stored.row[readable].argsort()]
    failures = tuple(stored.failures)
    for index in order.split(VIEW_BATCH):
        values = [each.to(module.device).float() for each in stored.take(index)]
        yield Crossing(_listed(run(values[0] if len(values) == 1 else tuple(values))), index, failures)
        failures = ()


def _pixels(module: "FineTuner", batch: Batch, view: int, number: int) -> Tensor:
    images, targets = batch.images.to(module.device), batch.targets.to(module.device)
    choice = module.cache.options.choice
    images = normalize(images, module.model.input_spec, channels_last=choice is None or choice.frozen_channels_last)
    if view:
        generator = torch.Generator().manual_seed(derive_seed(module.seed, "stored view", view, number))
        for plugin in module.plugins:
            if overrides(plugin, "train_batch") and plugin.stored_as == "views":
                images, _ = plugin.train_batch(images, targets, generator)
    return images


def _listed(crossing: dict[str, Any]) -> dict[str, list[Tensor]]:
    return {at: [each] if isinstance(each, Tensor) else list(each) for at, each in crossing.items()}


def _between(model: Any, stops: Sequence[str]) -> Callable[[Tensor], dict[str, Any]]:
    """Images to what crosses each boundary; in one pass where the model can."""
    whole = model.between(None, stops) if hasattr(model, "between") else None
    if whole is not None:
        return whole
    prefixes = {stop: model.split(stop)[0] for stop in stops}
    return lambda images: {stop: prefix(images) for stop, prefix in prefixes.items()}
