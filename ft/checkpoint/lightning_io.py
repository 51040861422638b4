"""Lightning's way to ``save`` and ``load``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from ft.checkpoint.generations import discard, numbered
from ft.checkpoint.load import load
from ft.checkpoint.manifest import read_manifest
from ft.checkpoint.not_written import NotWritten
from ft.checkpoint.save import save


class FolderCheckpointIO(CheckpointIO):
    """Checkpoints as folders, each of which names the one before it.

    Args:
        config: Of the run; each manifest has its hash.

    Attributes:
        parent: The ``last`` that was written or loaded before; ``None`` in the first epoch of a new run.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.parent: str | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: Lightning's dictionary.
            path: The folder.
            storage_options: A list that takes the message where it cannot be written. An exception in the first
                process would leave the others waiting for it.

        Raises:
            NotWritten: It cannot be written, and there is no such list.
        """
        try:
            manifest = save(checkpoint, Path(path), config=self.config, parent=self.parent)
        except NotWritten as error:
            if not isinstance(storage_options, list):
                raise
            storage_options.append(str(error))
            return
        if Path(path).name == "last":
            self.parent = manifest["sha256"]

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        checkpoint = load(Path(path))
        self.parent = read_manifest(Path(path))["sha256"]
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        target = Path(path)
        for folder in numbered(target).values():
            discard(folder)
        if target.is_symlink():
            target.unlink()
        else:
            discard(target)
