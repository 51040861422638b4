"""Some images of a run's data, as its evaluation sees them: what an export is compared on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ft.build.data import build_data
from ft.build.trained import stored_config, stored_task
from ft.errors import UserError
from ft.input_spec import InputSpec
from ft.run_folder import RunFolder

# Of the data configs that hold whatever the user puts there.
PLACES = {"folder": "root", "table": "csv_file"}


@dataclass(frozen=True)
class Sample:
    """Images that a model was not trained on.

    Attributes:
        source: Where they are from, for people: ``val``, ``test``, or a folder.
        pixels: ``(N, C, H, W)`` ``uint8``.
        counts: How many images each split has; empty where nobody counted.
    """

    source: str
    pixels: Tensor
    counts: dict[str, int]


def data_name(folder: RunFolder) -> str:
    """What people call the data set of a run: its config's name, or that of the user's own folder or table."""
    config = stored_config(folder)
    choice = config["choices"].get("data") or "unnamed"
    place = config["data"].get(PLACES.get(choice))
    return Path(place).expanduser().stem if place else choice


def run_sample(folder: RunFolder, spec: InputSpec, num_images: int) -> Sample:
    """A random sample of the validation split, else of the test split: the same whenever it is asked for.

    Args:
        folder: Of the run.
        spec: What its model wants to see.
        num_images: At most.

    Raises:
        UserError: The data is not where it was, has neither split, or cannot be read.
    """
    config = stored_config(folder)
    try:
        data = build_data(config, stored_task(folder, config), fit_labels=False)
    except UserError as error:
        raise UserError(
            f"{error}\nWithout the run's data, set images=FOLDER of images to check the export on."
        ) from None
    source = next((split for split in ("val", "test") if split in data.splits), None)
    if source is None:
        raise UserError(
            "the run has neither a val nor a test split: set images=FOLDER of images to check the export on."
        )
    loader = data.loaders(spec, [], seed=0).sample_loader(source, num_images)
    batches = [batch.images for batch in loader if len(batch.images)]
    if not batches:
        raise UserError(f"no image of the run's {source} split can be read: set images=FOLDER of images.")
    counts = {name: len(split.targets) for name, split in data.splits.items()}
    return Sample(source, torch.cat(batches), counts)
