"""An image data set of the Hugging Face hub, or a folder in its format; needs the extra ``hf``."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ft.data.folder import SPLIT_NAMES
from ft.data.images import decoding
from ft.data.source import Source, Split
from ft.errors import UserError, did_you_mean


@dataclass(frozen=True)
class HuggingFaceImages:
    """One column of a ``datasets.Dataset`` whose feature is ``Image``."""

    dataset: Any
    column: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Image.Image:
        with decoding(None):
            return self.dataset[position][self.column]


def huggingface(*, path: str | None, config: str | None, image: str, label: str) -> Source:
    """Loads with ``datasets.load_dataset``.

    Args:
        path: Name on the hub, or a local folder.
        config: The data set's configuration, if it has several.
        image: Column of images.
        label: Column of a ``ClassLabel``, of class names, or of numbers.

    Raises:
        UserError: The extra is not installed, the data is not in reach, or a column is missing.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise UserError("data=hf needs the extra hf: pip install -c constraints.txt -e '.[hf]'.") from None
    if not path:
        raise UserError("data=hf needs data.path: a data set's name on the hub, or a local folder.")
    try:
        loaded = datasets.load_dataset(path, config)
    # Network, missing data set, unknown configuration: every library below raises its own kind.
    except Exception as error:
        raise UserError(f"data.path={path} could not be loaded: {str(error).splitlines()[0]}") from error
    splits = {}
    classes: tuple[str, ...] = ()
    for name, aliases in SPLIT_NAMES.items():
        found = next((alias for alias in aliases if alias in loaded), None)
        if found is None:
            continue
        part = loaded[found]
        for key, column in (("data.image", image), ("data.label", label)):
            if column not in part.column_names:
                hint = did_you_mean(column, part.column_names)
                raise UserError(f"{key}={column}: the columns are {', '.join(part.column_names)}.{hint}")
        values = np.asarray(part[label])
        if isinstance(part.features[label], datasets.ClassLabel):
            classes = tuple(part.features[label].names)
            values = np.array(classes)[values]
        elif values.dtype.kind == "f":
            values = values.reshape(len(values), -1).astype(np.float32)
        else:
            values = values.astype(str)
        names = [f"{found}/{number}" for number in range(len(part))]
        splits[name] = Split(HuggingFaceImages(part, image), values, names)
    if "train" not in splits:
        raise UserError(f"data.path={path} has no train split; it has {', '.join(loaded)}.")
    return Source(splits, classes=classes)
