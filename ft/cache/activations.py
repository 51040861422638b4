"""What crossed a boundary, for every image of a split, computed once and kept.

    activations/<key>/  0.0.bin     (R, ...) one row an image that could be read: raw numbers
                        0.1.bin     its scales, for int8; 1.0.bin ... where several tensors cross
                        about.json  shapes, kinds, sha256 of each file, which images the rows are of; and its own

The key says what the rows depend on: the weights before the boundary, the boundary, the images, how they were cropped
and augmented, the kind of numbers, the versions. An entry is written beside its place and moved there whole; one whose
files are not what its ``about.json`` says is removed and computed again.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ft.cache.codec import decode
from ft.cache.folder import ABOUT, place, read_about, touch

FORMAT = 2
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


def read(key: str, *, memory: float, tell: Callable[[str], None] = print) -> Stored | None:
    """An entry, if it is there and whole; one that is damaged is removed.

    Its files are hashed every time they are opened. What somebody changes in a file that is mapped already is not seen.

    Args:
        key: Its name.
        memory: Bytes up to which it is copied into memory; beyond, its files are mapped.
        tell: Gets the line about a damaged one.
    """
    folder = place("activations", key)
    if not (folder / ABOUT).is_file():
        return None
    found = read_about(folder)
    try:
        if not found:
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
    except (KeyError, ValueError, OSError) as error:
        tell(f"cache: {folder}: {error}; it is computed again")
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
