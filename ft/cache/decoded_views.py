"""One view of all images of a split, open: read, checked, written, gathered.

    pixels.u8   (N, C, H, W)
    sums.u64    (N,)           0 missing, 1 could not be read, else 2**32 + crc32 of the pixels

Any process writes any image, its pixels first and then its sum: written twice they are the same, and what was half
written or damaged does not fit its sum and is decoded again. A process checks an image when it first reads it; what
somebody changes in the files after that is not seen by it.
"""

import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ft.data.images import UnreadableImage

MISSING, UNREADABLE, KEPT = 0, 1, 2**32
PIXELS, SUMS = "pixels.u8", "sums.u64"
# Of a device's free memory, the share that one view of a split may take.
DEVICE_SHARE = 0.25

Shape = tuple[int, int, int, int]


class WrongSize(OSError):
    """A file of an entry has been cut off."""


class DecodedViews:
    """An entry that is open.

    Args:
        path: Its folder.
        shape: ``(N, C, H, W)``.
        damaged: Told when something is not what was written.

    Raises:
        OSError: It is not there.
        WrongSize: It is not of this shape.
    """

    def __init__(self, path: Path, shape: Shape, damaged: Callable[[str], None]) -> None:
        self.path = path
        self.damaged = damaged
        self.shape = shape
        for name, size in files_of(shape).items():
            if (found := (path / name).stat().st_size) != size:
                raise WrongSize(f"{path / name} has {found} bytes instead of {size}")
        # Where it cannot be written to, what this process decodes remains its own.
        self._writable = all(os.access(path / name, os.W_OK) for name in (PIXELS, SUMS))
        mode = "r+" if self._writable else "c"
        self._pixels = np.asarray(np.memmap(path / PIXELS, np.uint8, mode)).reshape(shape)
        self._sums = np.asarray(np.memmap(path / SUMS, np.uint64, mode))
        self._good = np.zeros(shape[0], dtype=bool)
        self._settled = False
        self._everything: tuple[torch.device, Tensor] | None = None

    def get(self, index: int, decode: Callable[[], Tensor]) -> Tensor:
        """``(C, H, W)``; decoded, and kept from then on, where it is missing or damaged."""
        if self._is_good(index):
            return torch.from_numpy(self._pixels[index].copy())
        try:
            view = decode().contiguous()
        except UnreadableImage:
            if self._sums[index] == MISSING:
                self._write(SUMS, self._sums, index, np.array([UNREADABLE], np.uint64))
            raise
        pixels = view.numpy()
        self._write(PIXELS, self._pixels, index, pixels)
        self._write(SUMS, self._sums, index, np.array([KEPT + zlib.crc32(pixels.data)], np.uint64))
        self._everything = None
        return view

    def settled(self) -> bool:
        """Whether every image is kept, but for those that could not be read."""
        self._settled = self._settled or bool((self._sums != MISSING).all())
        return self._settled

    def missing(self, positions: Sequence[int]) -> set[int]:
        """Those of some images that are not kept, or are damaged."""
        return {position for position in positions if not self._is_good(position)}

    def gather(self, index: Tensor, device: torch.device) -> Tensor:
        """``(B, C, H, W)`` of images that are kept: on the device if there is room for all, else on the CPU."""
        everything = self._on(device)
        if everything is None:
            return torch.from_numpy(self._pixels[index.numpy()])
        return everything[index.to(device)]

    def _write(self, name: str, mapped: np.ndarray, index: int, value: np.ndarray) -> None:
        """Into the file, which takes a fifth of the time that first touching pages of its map does."""
        if not self._writable:
            mapped[index : index + 1] = value
            return
        # An image is decoded again where the file has been deleted meanwhile, or a disk could not reserve its place.
        with suppress(OSError), open(self.path / name, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), value.data, index * value.nbytes)

    def _is_good(self, index: int) -> bool:
        if not self._good[index]:
            kept = int(self._sums[index])
            if kept not in (MISSING, UNREADABLE):
                self._good[index] = kept == KEPT + zlib.crc32(self._pixels[index].data)
                if not self._good[index]:
                    self.damaged(f"an image in {self.path} does not fit its sum")
        return bool(self._good[index])

    def _on(self, device: torch.device) -> Tensor | None:
        if self._everything is None and self._pixels.nbytes <= DEVICE_SHARE * free_memory(device):
            missing = self.missing(range(self.shape[0]))
            # The places of those that cannot be read go along, and are never asked for.
            if all(self._sums[index] == UNREADABLE for index in missing):
                self._everything = device, torch.from_numpy(self._pixels).to(device)
        return self._everything[1] if self._everything and self._everything[0] == device else None


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; 0 of one on which images would not be nearer than they are."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def files_of(shape: Shape) -> dict[str, int]:
    """Names and sizes of an entry's files."""
    return {PIXELS: int(np.prod(shape)), SUMS: 8 * shape[0]}


def opened(path: Path, shape: Shape, damaged: Callable[[str], None]) -> DecodedViews | None:
    """The entry, if it is there and of this shape."""
    try:
        return DecodedViews(path, shape, damaged)
    except WrongSize as error:
        damaged(str(error))
    except (OSError, ValueError):
        pass
    return None
