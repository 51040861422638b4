"""Pooled features of a pretrained backbone for every image, computed once and kept in the cache folder."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from ft.build.data import Data
from ft.cache.activations import Stored, key_of, read, weights_hash
from ft.cache.folder import locked, make_room, place
from ft.cache.writer import Writer
from ft.data.fingerprint import fingerprint
from ft.inference.pixels import DTYPES, on_pixels
from ft.show.console import warning

GIB = 1 << 30
FEATURES = "pooled features"


def backbone_features(
    model: Any,
    data: Data,
    settings: dict[str, Any],
    *,
    device: torch.device,
    precision: str,
    tick: Callable[[int], None],
    failed: Callable[[str, Sequence[tuple[int, str]]], None] = lambda split, failures: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Of all images of all splits, as evaluation sees them.

    Args:
        model: Has ``features``: normalised images to ``(B, F)``.
        data: Its images.
        settings: The group ``cache``: whether and how much may be kept.
        device: Where they are computed.
        precision: ``fp32`` or ``bf16``.
        tick: Called with the number of images that are done.
        failed: Called for each split with those of its images that cannot be read: position and reason.

    Returns:
        ``(R,)`` positions of the readable images in all splits, one after the other, and their ``(R, F)`` features.
    """
    network = on_pixels(model.to(device).eval().features, model.input_spec, device, DTYPES[precision])
    loaders = data.loaders(model.input_spec, [], seed=0)
    below = {
        "weights": weights_hash(model, [f"backbone.{name}" for name in model.backbone.state_dict()]),
        "boundary": FEATURES,
        "model": repr(model.backbone),
        "pool": repr(model.pool),
        "input": asdict(model.input_spec),
        "precision": precision,
        "device": device.type,
    }
    rows, values, start = [], [], 0
    for name, split in data.splits.items():
        images = fingerprint(split.images) if settings["activations"] else None
        key = key_of({**below, "images": images}) if images is not None else None
        size = len(split.names)

        def compute(writer: Writer, name: str = name) -> None:
            for batch in loaders.evaluation_loader(name):
                if len(batch.index):
                    writer.add([network(batch.images)], batch.index)
                writer.failures += batch.failures
                tick(len(batch.index) + len(batch.failures))

        stored, computed = _stored(key, size, compute, limit=int(settings["disk"] * GIB))
        if not computed:
            tick(size)
        failed(name, stored.failures)
        there = (stored.row >= 0).nonzero().flatten()
        if len(there):
            rows.append(there.numpy() + start)
            values.append(stored.take(there)[0].float().numpy())
        start += size
    return np.concatenate(rows), np.concatenate(values)


def _stored(key: str | None, size: int, compute: Callable[[Writer], None], *, limit: int) -> tuple[Stored, bool]:
    """An entry of the cache, and whether it had to be computed; in memory alone where nothing can be written."""
    about = {"boundary": FEATURES, "images": size, "dtype": "fp32"}
    with ExitStack() as stack:
        if key is not None:
            try:
                stack.enter_context(locked(place("activations", f"{key}.new")))
                if (found := read(key, memory=float("inf"))) is not None:
                    return found, False
            except OSError as error:
                warning(f"cache: nothing is written: {error.filename}: {error.strerror}")
                key = None
        writer = Writer(None, "fp32", size, about, in_memory=True)
        compute(writer)
        stored = writer.finish()
        if key is not None and make_room(stored.bytes, limit=limit, kind="activations"):
            try:
                kept = Writer(key, "fp32", size, about, in_memory=False)
                kept.failures = stored.failures
                there = (stored.row >= 0).nonzero().flatten()
                kept.add(stored.take(there), there)
                kept.finish()
            except OSError as error:
                warning(f"cache: features are not kept: {error.strerror}")
        return stored, True
