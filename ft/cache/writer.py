"""Writes an entry of ``ft.cache.activations``, row by row, beside its place; moves it there whole."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ft.cache.activations import Part, Stored, read
from ft.cache.codec import encode
from ft.cache.folder import make, place, write_about


class Writer:
    """Takes rows as they are computed.

    Args:
        key: Of the entry; ``None`` keeps the rows in memory alone.
        dtype: One of ``codec.DTYPES``.
        size: Number of images of the split, ``N``.
        about: For people who look at the folder.
        in_memory: Keeps the rows in memory, besides.

    Attributes:
        failures: Images that could not be read, and why; to be set before ``finish``.

    Raises:
        OSError: The place cannot be written to.
    """

    def __init__(self, key: str | None, dtype: str, size: int, about: Mapping[str, Any], *, in_memory: bool) -> None:
        self.key = key
        self.dtype = dtype
        self.about = dict(about)
        self.row = torch.full((size,), -1)
        self.failures: list[tuple[int, str]] = []
        self.rows = 0
        self._kept: list[list[list[Tensor]]] | None = [] if in_memory or key is None else None
        self._layout: list[tuple[bool, list[Tensor]]] = []
        self._folder = make(place("activations", f"{key}.new")) if key is not None else None
        self._files: list[list[tuple[BinaryIO, Any]]] = []

    def add(self, activations: Sequence[Tensor], index: Tensor) -> None:
        """Appends the rows of a batch.

        Args:
            activations: One tensor ``(B, ...)`` for each that crosses.
            index: ``(B,)`` positions of the images.

        Raises:
            OSError: The disk is full.
        """
        self.row[index] = torch.arange(self.rows, self.rows + len(index))
        self.rows += len(index)
        encoded: list[list[Tensor]] = []
        for values in activations:
            values = values.detach()
            last = _is_channels_last(values)
            arrays = encode(values, self.dtype)
            encoded.append([(a.permute(0, 2, 3, 1) if last else a).cpu().contiguous() for a in arrays])
            if len(self._layout) < len(activations):
                self._layout.append((last, encoded[-1]))
        if self._kept is not None:
            self._kept.append(encoded)
        if self._folder is not None:
            self._write(encoded)

    def forget_disk(self) -> None:
        """Goes on in memory alone; what was written is removed."""
        self._close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.key = self._folder = None

    @property
    def in_memory(self) -> bool:
        return self._kept is not None

    def finish(self) -> Stored:
        """Moves the entry to its place.

        Raises:
            OSError: The disk is full.
        """
        if self._folder is not None:
            assert self.key is not None
            hashes = [[digest.hexdigest() for _, digest in files] for files in self._files]
            self._close()
            parts = [
                {
                    "channels_last": last,
                    "arrays": [
                        {
                            "shape": list(array.shape[1:]),
                            "dtype": str(array.dtype).removeprefix("torch."),
                            "sha256": sha,
                        }
                        for array, sha in zip(arrays, shas, strict=True)
                    ],
                }
                for (last, arrays), shas in zip(self._layout, hashes, strict=True)
            ]
            found = {"rows": self.rows, "row": self.row.tolist(), "failures": self.failures, "parts": parts}
            write_about(self._folder, {"about": self.about, **found})
            target = place("activations", self.key)
            shutil.rmtree(target, ignore_errors=True)
            self._folder.rename(target)
            if self._kept is None:
                stored = read(self.key, memory=0)
                assert stored is not None, "what was just written is there"
                return stored
        assert self._kept is not None
        arrays = [
            Part([torch.cat(pieces) for pieces in zip(*(batch[at] for batch in self._kept), strict=True)], last)
            for at, (last, _) in enumerate(self._layout)
        ]
        self._kept = []
        return Stored(arrays, self.row, self.failures)

    def _write(self, encoded: list[list[Tensor]]) -> None:
        assert self._folder is not None
        if not self._files:
            self._files = [
                [((self._folder / f"{at}.{which}.bin").open("wb"), hashlib.sha256()) for which in range(len(arrays))]
                for at, arrays in enumerate(encoded)
            ]
        for files, arrays in zip(self._files, encoded, strict=True):
            for (file, digest), array in zip(files, arrays, strict=True):
                raw = memoryview(array.reshape(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
                file.write(raw)
                digest.update(raw)

    def _close(self) -> None:
        files, self._files = self._files, []
        for file, _ in (pair for pairs in files for pair in pairs):
            file.close()


def _is_channels_last(values: Tensor) -> bool:
    if values.ndim != 4 or values.is_contiguous():
        return False
    return values.is_contiguous(memory_format=torch.channels_last)
