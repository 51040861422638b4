"""Lightning's way to ``save`` and ``load``."""

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from ft.checkpoint.load import load
from ft.checkpoint.save import save


class FolderCheckpointIO(CheckpointIO):
    """Checkpoints as folders."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path)
