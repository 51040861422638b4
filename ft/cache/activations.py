"""What crossed a boundary, for every image of a split, computed once and kept.

    activations/<key>/  0.0.bin     (R, ...) one row an image that could be read: raw numbers
                        0.1.bin     its scales, for int8; 1.0.bin ... where several tensors cross
                        about.json  shapes, kinds, sha256 of each file, which images the rows are of

The key says what the rows depend on: the weights before the boundary, the boundary, the images, how they were cropped
and augmented, the kind of numbers, the versions. An entry is written beside its place and moved there whole; one whose
files are not what its ``about.json`` says is removed and computed again.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ft.cache.codec import decode, encode
from ft.cache.folder import ABOUT, make, place, read_about, touch, write_about

FORMAT = 1
CHUNK = 1 << 24  # bytes that are hashed at a time


def key_of(parts: Mapping[str, Any]) -> str:
    """A name for what depends on exactly these parts, and on the versions of what computes."""
    versions = {package: version(package) for package in ("torch", "timm", "torchvision", "pillow")}
    whole = json.dumps({**parts, "versions": versions, "format": FORMAT}, sort_keys=True)
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def weights_hash(model: nn.Module, names: Iterable[str]) -> str:
    """Of the named parameters and buffers, bit for bit."""
    digest = hashlib.sha256()
    state = model.state_dict(keep_vars=True)
    for name in sorted(set(names) & set(state)):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True)
class Part:
    """One tensor of what crosses.

    Attributes:
        arrays: ``(R, ...)`` what is stored: values, for int8 scales too.
        channels_last: Rows are ``(H, W, C)``, of tensors ``(B, C, H, W)`` that lay in memory like that.
    """

    arrays: list[Tensor]
    channels_last: bool

    def take(self, rows: Tensor) -> Tensor:
        """``(B, ...)`` of some rows."""
        values = decode([array[rows.to(array.device)] for array in self.arrays])
        return values.permute(0, 3, 1, 2) if self.channels_last else values


@dataclass(frozen=True)
class Stored:
    """The activations of one view of a split at one boundary.

    Attributes:
        parts: The tensors that cross.
        row: ``(N,)`` row of each image; -1 of one that could not be read.
        failures: Those: position and reason.
    """

    parts: list[Part]
    row: Tensor
    failures: list[tuple[int, str]]

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for part in self.parts for array in part.arrays)

    def take(self, positions: Tensor) -> list[Tensor]:
        """One tensor ``(B, ...)`` for each that crosses.

        Args:
            positions: ``(B,)`` of images that could be read.
        """
        rows = self.row[positions]
        return [part.take(rows) for part in self.parts]

    def to(self, device: torch.device) -> "Stored":
        """The same on a device."""
        parts = [Part([array.to(device) for array in part.arrays], part.channels_last) for part in self.parts]
        return Stored(parts, self.row, self.failures)


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
            write_about(self._folder, {"about": self.about, **found, "sha256": _of(found)})
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


def read(key: str, *, memory: float) -> Stored | None:
    """An entry, if it is there and whole; one that is damaged is removed.

    Args:
        key: Its name.
        memory: Bytes up to which it is copied into memory; beyond, its files are mapped.
    """
    folder = place("activations", key)
    if not (folder / ABOUT).is_file():
        return None
    found = read_about(folder)
    try:
        if found.pop("sha256") != _of({name: value for name, value in found.items() if name != "about"}):
            raise ValueError(f"{ABOUT} is damaged")
        in_memory = sum(file.stat().st_size for file in folder.glob("*.bin")) <= memory
        parts = [
            Part(
                [
                    _read_array(folder / f"{at}.{which}.bin", found["rows"], array, in_memory=in_memory)
                    for which, array in enumerate(part["arrays"])
                ],
                part["channels_last"],
            )
            for at, part in enumerate(found["parts"])
        ]
    except (KeyError, ValueError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    touch(folder)
    return Stored(parts, torch.tensor(found["row"]), [(int(at), str(why)) for at, why in found["failures"]])


def _read_array(path: Path, rows: int, array: Mapping[str, Any], *, in_memory: bool) -> Tensor:
    shape, dtype = (rows, *array["shape"]), getattr(torch, array["dtype"])
    size = torch.Size(shape).numel()
    if path.stat().st_size != size * dtype.itemsize:
        raise ValueError(f"{path.name} has another size")
    # A private map: no other process sees what is done to it.
    flat = torch.from_file(str(path), shared=False, size=size, dtype=dtype) if size else torch.empty(0, dtype=dtype)
    if in_memory:
        flat = flat.clone()
    digest, raw = hashlib.sha256(), memoryview(flat.view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
    for start in range(0, len(raw), CHUNK):
        digest.update(raw[start : start + CHUNK])
    if digest.hexdigest() != array["sha256"]:
        raise ValueError(f"{path.name} is damaged")
    return flat.view(shape)


def _of(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _is_channels_last(values: Tensor) -> bool:
    if values.ndim != 4 or values.is_contiguous():
        return False
    return values.is_contiguous(memory_format=torch.channels_last)
