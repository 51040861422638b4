"""The data sets that torchvision downloads, each with its own official split."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torchvision.datasets
from PIL import Image

from ft.data.images import decoding
from ft.data.only_arrays import only_arrays
from ft.data.source import Chosen, Source, Split
from ft.errors import UserError, one_of

CONNECT_SECONDS = 10.0

# Every constructor's way to name its splits; ``{}`` has one split only.
SPLIT_ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "FashionMNIST": {"train": {"train": True}, "test": {"train": False}},
    "CIFAR10": {"train": {"train": True}, "test": {"train": False}},
    "CIFAR100": {"train": {"train": True}, "test": {"train": False}},
    "Flowers102": {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "EuroSAT": {"train": {}},
    "SVHN": {"train": {"split": "train"}, "test": {"split": "test"}},
}


@dataclass(frozen=True)
class TorchvisionImages:
    """The images of a torchvision data set, without their labels."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Image.Image:
        with decoding(None):
            return self.dataset[position][0]


def torchvision_set(*, name: str, root: str, download: bool) -> Source:
    """One of torchvision's data sets.

    Args:
        name: The class's name in ``torchvision.datasets``.
        root: Folder for the download, kept between runs.
        download: Off: the files must be there already.

    Raises:
        UserError: The data is neither there nor in reach.
    """
    one_of(name, SPLIT_ARGUMENTS, "data.name")
    make = getattr(torchvision.datasets, name)
    splits = {}
    classes: tuple[str, ...] = ()
    for split, arguments in SPLIT_ARGUMENTS[name].items():
        try:
            with _connections_end(), only_arrays():
                dataset = make(root, download=download, **arguments)
        # urllib raises URLError (an OSError), torchvision RuntimeError for files that are absent or damaged.
        except (OSError, RuntimeError, UnpicklingError) as error:
            raise UserError(
                f"data.name={name} is not in data.root={root} and could not be downloaded: "
                f"{str(error).splitlines()[0]} "
                "Put the files there, or use data=folder or data=digits."
            ) from None
        numbers = np.asarray(_targets(dataset))
        classes = tuple(str(c) for c in getattr(dataset, "classes", ())) or tuple(
            str(number) for number in range(int(numbers.max()) + 1)
        )
        splits[split] = Split(
            Chosen(TorchvisionImages(dataset), np.arange(len(dataset))),
            np.array(classes)[numbers],
            [f"{name}/{split}/{number}" for number in range(len(dataset))],
        )
    return Source(splits, classes=classes)


def _targets(dataset: Any) -> Any:
    """Labels without decoding an image: torchvision names them in three ways."""
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(dataset, attribute):
            return getattr(dataset, attribute)
    raise TypeError(f"{type(dataset).__name__} has none of targets, labels, _labels")


@contextmanager
def _connections_end() -> Iterator[None]:
    """torchvision opens its connections without a time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
