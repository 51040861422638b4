"""``trainer.micro_batch``: how many images go through at once, as the config says and as memory allows."""

from functools import partial
from typing import Any

from omegaconf import OmegaConf

from ft.build.trainer import process_rank
from ft.errors import require
from ft.faults.memory import Pieces
from ft.run_folder import RunFolder, write_whole


def pieces(config: dict[str, Any], folder: RunFolder) -> Pieces:
    """What takes a run's batches through its model.

    Args:
        config: The whole config.
        folder: Of the run; what turns out to fit is written into its config.

    Raises:
        UserError: The size is out of range.
    """
    size = config["trainer"]["micro_batch"]
    require(
        size is None or (isinstance(size, int) and size >= 1), "trainer.micro_batch", "must be null or 1 or more", size
    )
    return Pieces(size, partial(remember, folder))


def remember(folder: RunFolder, size: int) -> None:
    """A resumed run begins with it; the rest of its config stays as it was written."""
    if process_rank() == 0 and folder.config.is_file():
        config = OmegaConf.load(folder.config)
        OmegaConf.update(config, "trainer.micro_batch", size)
        write_whole(folder.config, OmegaConf.to_yaml(config))
