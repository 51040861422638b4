"""Pooled features of every image with its name, in one file.

FILE.safetensors   tensor ``embeddings`` (N, F); ``names`` in its header, as JSON
FILE.npy           array (N, F); names in FILE.names.json beside it
FILE.parquet       columns ``image`` and ``embedding``, a list of F
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ft.inference.rows import IMAGE
from ft.inference.tables import readable

ENDINGS = (".safetensors", ".npy", ".parquet")


def embedding_files(path: Path) -> list[Path]:
    """All files that ``Embeddings.save`` writes, the asked one first."""
    return [path, path.with_suffix(".names.json")] if path.suffix.lower() == ".npy" else [path]


class Embeddings:
    """Gathers them: 4 bytes a number are in memory until the end.

    Args:
        num_images: At most so many.
    """

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self.names: list[str] = []
        self._rows: np.ndarray | None = None

    def add(self, names: list[str], features: Tensor) -> None:
        """Takes ``B`` names and ``(B, F)``."""
        if self._rows is None:
            # All at once: joining parts at the end would take twice the memory.
            self._rows = np.empty((self.num_images, features.shape[1]), dtype=np.float32)
        start = len(self.names)
        self._rows[start : start + len(names)] = features.numpy()
        self.names += [readable(name) for name in names]

    @property
    def rows(self) -> np.ndarray:
        """``(N, F)``."""
        return np.empty((0, 0), dtype=np.float32) if self._rows is None else self._rows[: len(self.names)]

    def save(self, ending: str, paths: list[Path]) -> None:
        """Writes the files.

        Args:
            ending: One of ``ENDINGS``.
            paths: As many as ``embedding_files`` says.
        """
        if ending == ".npy":
            with paths[0].open("wb") as out:  # NumPy would add its ending to a name.
                np.save(out, self.rows)
            paths[1].write_text(json.dumps(self.names) + "\n", encoding="utf-8")
        elif ending == ".safetensors":
            save_file({"embeddings": torch.from_numpy(self.rows)}, paths[0], {"names": json.dumps(self.names)})
        else:
            import pyarrow
            from pyarrow import parquet

            flat = pyarrow.array(self.rows.ravel())
            column = pyarrow.FixedSizeListArray.from_arrays(flat, self.rows.shape[1])
            parquet.write_table(pyarrow.table({IMAGE: self.names, "embedding": column}), paths[0])
