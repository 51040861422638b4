"""From the ``data`` config to splits with targets, and from those to loaders."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ft.cache.decoded import DecodedSplit, Room
from ft.cache.readable import drop_unreadable_once
from ft.data.bad_images import BadImages
from ft.data.check import drop_unreadable, file_paths
from ft.data.module import DataModule, EncodedSplit, LoaderOptions
from ft.data.source import Source
from ft.data.splits import complete, limit, only_listed
from ft.data.transforms import EvaluationTransform, Transform
from ft.errors import UserError, one_of, require
from ft.input_spec import InputSpec
from ft.instantiate import instantiate
from ft.plugin import Plugin, fold
from ft.show.console import warning
from ft.tasks.task import Task

# Keys of the data config that are the core's; the others are arguments of its ``_target_``.
CORE_KEYS = (
    "batch_size",
    "num_workers",
    "timeout",
    "changed",
    "val_fraction",
    "test_fraction",
    "split_seed",
    "limit",
    "subset_file",
    "val_subset_file",
    "class_weights",
    "balanced",
    "on_bad",
    "decoded",
    "decoded_limit",
    "suggested",
)


@dataclass
class Data:
    """A data set, its labels turned into targets.

    Attributes:
        splits: By name.
        suggested: ``img_size`` and ``crop_pct`` that suit these images.
        options: Of the loaders.
        in_memory: Images cost no decoding.
        bad_images: Those that cannot be read.
        decoded_limit: Bytes that decoded images may take in the cache; 0: they are not kept.
    """

    splits: dict[str, EncodedSplit]
    suggested: dict[str, Any]
    options: LoaderOptions
    in_memory: bool
    bad_images: BadImages
    decoded_limit: int

    def loaders(
        self, spec: InputSpec, plugins: Sequence[Plugin], *, seed: int, view: Transform | None = None
    ) -> DataModule:
        """Loaders whose images are what the model's ``input_spec`` asks for.

        Args:
            spec: Of the model.
            plugins: They change the images of training.
            seed: Of order and random views.
            view: What training sees in place of the plain view, before the plugins.
        """
        plain = EvaluationTransform(spec)
        decoded = {}
        if self.decoded_limit:
            room = Room(self.decoded_limit, tell=warning)
            files = {name: split.images for name, split in self.splits.items() if file_paths(split.images)}
            decoded = {name: DecodedSplit(images, room) for name, images in files.items()}
        return DataModule(
            self.splits,
            train_transform=fold(list(plugins), "train_transform", view or plain),
            eval_transform=plain,
            options=self.options,
            seed=seed,
            in_memory=self.in_memory,
            decoded=decoded,
        )


def build_data(config: dict[str, Any], task: Task, *, fit_labels: bool = True, decode: bool = True) -> Data:
    """Reads the data set and checks it.

    Args:
        config: The whole config.
        task: Learns its classes from the training labels.
        fit_labels: Off where the task knows its classes already.
        decode: Off where whoever asks looks for damaged images himself.

    Raises:
        UserError: Anything that is wrong with the data.
    """
    settings = config["data"]
    source = prepare_source(settings, decode=decode)
    train = source.splits["train"]
    if fit_labels:
        task.fit_labels(train.labels, source.classes, source.columns)
    splits = {
        name: EncodedSplit(split.images, task.encode(split.labels, name), split.names)
        for name, split in source.splits.items()
    }
    if settings["class_weights"] is not None:
        task.with_class_weights(_class_weights(settings["class_weights"], task.class_counts(splits["train"].targets)))
    return Data(
        splits,
        suggested=settings["suggested"],
        options=LoaderOptions(
            settings["batch_size"],
            settings["num_workers"],
            balanced=settings["balanced"],
            full_batch=config["optimizer"]["full_batch"],
            timeout=settings["timeout"],
        ),
        in_memory=source.in_memory,
        bad_images=BadImages(
            settings["on_bad"],
            {name: split.names for name, split in source.splits.items()},
            source.bad,
            {name: files for name, split in source.splits.items() if (files := file_paths(split.images))},
        ),
        decoded_limit=_decoded_limit(settings["decoded"], settings["decoded_limit"]),
    )


def prepare_source(settings: dict[str, Any], *, decode: bool = True) -> Source:
    """The data set with all its splits, without what cannot be read, cut down as asked.

    Args:
        settings: The group ``data``.
        decode: Whether images that are left out are all known now, or only those without a valid header.
    """
    source: Source = instantiate({key: value for key, value in settings.items() if key not in CORE_KEYS}, "data")
    check = drop_unreadable_once if settings["decoded"] == "auto" else drop_unreadable
    source = check(source, on_bad=settings["on_bad"], decode=decode and settings["on_bad"] != "error")
    listed = partial(only_listed, left_out={bad.name for bad in source.bad})
    splits = dict(source.splits)
    # A list of training images comes before the fractions: they are taken from what it names.
    if settings["val_subset_file"] is not None:
        where = splits.get("val", splits["train"])
        try:
            splits["val"] = listed(where, settings["val_subset_file"], "data.val_subset_file")
        except UserError:
            splits["val"] = listed(splits["train"], settings["val_subset_file"], "data.val_subset_file")
    if settings["subset_file"] is not None:
        splits["train"] = listed(splits["train"], settings["subset_file"], "data.subset_file")
    source = complete(
        source.with_splits(splits),
        val_fraction=settings["val_fraction"],
        test_fraction=settings["test_fraction"],
        seed=settings["split_seed"],
    )
    if settings["limit"] is not None:
        train = limit(source.splits["train"], settings["limit"], settings["split_seed"])
        source = source.with_splits({**source.splits, "train": train})
    return source


def _decoded_limit(wanted: str | bool, gib: float) -> int:
    """Bytes."""
    # YAML reads off as false.
    one_of("off" if wanted is False else wanted, ("auto", "off"), "data.decoded")
    require(gib > 0, "data.decoded_limit", "must be above 0", gib)
    return int(gib * 2**30) if wanted == "auto" else 0


def _class_weights(wanted: str | Sequence[float], counts: torch.Tensor) -> torch.Tensor:
    """``(K,)`` weights with mean 1 over the training images."""
    if wanted == "balanced":
        return counts.sum() / (len(counts) * counts.clamp(min=1).float())
    rule = f"must be null, balanced, or a list of {len(counts)} positive numbers"
    require(not isinstance(wanted, str) and len(wanted) == len(counts), "data.class_weights", rule, wanted)
    weights = torch.tensor([float(weight) for weight in wanted])
    require(bool((weights > 0).all()), "data.class_weights", rule, wanted)
    return weights
