"""Decoded once: plain views of a split's images in a memory map that epochs, worker processes, runs and sweeps share.

    decoded/<key>/  pixels.u8   (N, C, H, W)   its place on the disk is taken when it is made
                    sums.u64    (N,)           0 missing, 1 could not be read, else 2**32 + crc32 of the pixels
                    about.json

The key says what pixels depend on: files with sizes and times of change, the view, the code and libraries that make it.
Any process writes any image, its pixels first and then its sum: written twice they are the same, and what was half
written or damaged does not fit its sum and is decoded again. A process checks an image when it first reads it.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import features
from torch import Tensor
from torch.utils.data import get_worker_info

from ft.cache.folder import (
    cache_dir,
    entries,
    free_bytes,
    in_words,
    locked,
    made_whole,
    make_room,
    place,
    reserve,
    touch,
    write_about,
)
from ft.data import images as images_module
from ft.data.check import file_paths
from ft.data.fingerprint import fingerprint
from ft.data.images import UnreadableImage
from ft.data.source import Images
from ft.data.transforms import EvaluationTransform

MISSING, UNREADABLE, KEPT = 0, 1, 2**32
PIXELS, SUMS = "pixels.u8", "sums.u64"
# What turns a file into pixels: an entry is good for as long as none of it changes.
CODE = ("images.py", "transforms.py")
# Share of the disk that stays free, and of a device's free memory that the images of a split may take.
FREE_DISK, DEVICE_SHARE = 0.1, 0.25

Shape = tuple[int, int, int, int]


class DecodedViews:
    """An entry that is open: one view of all images. Worker processes that get it open it for themselves.

    Args:
        path: Its folder.
        shape: ``(N, C, H, W)``.

    Raises:
        OSError: It is not there, or not of this shape.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path = path
        self.shape = shape
        for name, size in _files(shape).items():
            if (found := (path / name).stat().st_size) != size:
                raise OSError(f"{path / name} has {found} bytes instead of {size}")
        # Where it cannot be written to, what this process decodes remains its own.
        self._writable = all(os.access(path / name, os.W_OK) for name in (PIXELS, SUMS))
        mode = "r+" if self._writable else "c"
        self._pixels = np.asarray(np.memmap(path / PIXELS, np.uint8, mode)).reshape(shape)
        self._sums = np.asarray(np.memmap(path / SUMS, np.uint64, mode))
        self._good = np.zeros(shape[0], dtype=bool)
        self._settled = False
        self._everything: tuple[torch.device, Tensor] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return DecodedViews, (self.path, self.shape)

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
            self._good[index] = kept >= KEPT and kept == KEPT + zlib.crc32(self._pixels[index].data)
        return bool(self._good[index])

    def _on(self, device: torch.device) -> Tensor | None:
        if self._everything is None and self._pixels.nbytes <= DEVICE_SHARE * free_memory(device):
            missing = self.missing(range(self.shape[0]))
            # The places of those that cannot be read go along, and are never asked for.
            if all(self._sums[index] == UNREADABLE for index in missing):
                self._everything = device, torch.from_numpy(self._pixels).to(device)
        return self._everything[1] if self._everything and self._everything[0] == device else None


class Room:
    """How much room decoded images may take. Who is told that there is too little is told once.

    Args:
        limit: Bytes, of all decoded images together.
        tell: Gets the line.
    """

    def __init__(self, limit: int, tell: Callable[[str], None]) -> None:
        self.limit = limit
        self.tell = tell
        # What was opened since then may be in use. A file's time can be a tick behind the clock.
        self.started = time.time() - 1
        self._told = False

    def make(self, needed: int) -> None:
        """Removes what has not been used for the longest time, until so many bytes fit.

        Raises:
            OSError: They cannot.
        """
        free, total = free_bytes()
        taken = sum(entry.bytes for entry in entries("decoded"))
        for limit, rule in (
            (self.limit, f"data.decoded_limit is {in_words(self.limit)}"),
            (taken + free - int(FREE_DISK * total), "a tenth of the disk is to stay free"),
        ):
            if not make_room(needed, limit=limit, kind="decoded", unused_since=self.started):
                raise OSError(rule)

    def refuse(self, needed: int, error: OSError) -> None:
        """Says why decoded images are not kept. Not from worker processes: theirs has found out before them."""
        if not self._told and get_worker_info() is None:
            self._told = True
            self.tell(
                f"decoded images are not kept in {cache_dir()}: {in_words(needed)} are needed, "
                f"{in_words(free_bytes()[0])} are free, and {error.strerror or error}. They are decoded every time."
            )


class DecodedSplit:
    """The images of one split, in every view that is asked for; follows ``ft.data.decoded.Decoded``.

    Args:
        images: From files.
        room: For them.
    """

    def __init__(self, images: Images, room: Room) -> None:
        self.images = images
        self.room = room
        self._files: str | None = None
        self._open: dict[EvaluationTransform, DecodedViews | None] = {}

    def get(self, view: EvaluationTransform, index: int, decode: Callable[[], Tensor]) -> Tensor:
        views = self._views(view)
        return decode() if views is None else views.get(index, decode)

    def settled(self, view: EvaluationTransform) -> bool:
        views = self._views(view)
        return views is not None and views.settled()

    def missing(self, view: EvaluationTransform, positions: Sequence[int]) -> set[int]:
        views = self._views(view)
        return set(positions) if views is None else views.missing(positions)

    def gather(self, view: EvaluationTransform, index: Tensor, device: torch.device) -> Tensor:
        views = self._views(view)
        assert views is not None
        return views.gather(index, device)

    def _views(self, view: EvaluationTransform) -> DecodedViews | None:
        if view not in self._open:
            spec = view.spec
            shape = (len(self.images), spec.channels, spec.height, spec.width)
            path = place("decoded", self._key(view))
            try:
                self._open[view] = _opened(path, shape) or self._made(path, shape, view)
                touch(path)
            except OSError as error:
                self.room.refuse(sum(_files(shape).values()), error)
                self._open[view] = None
        return self._open[view]

    def _made(self, path: Path, shape: Shape, view: EvaluationTransform) -> DecodedViews:
        with locked(path):
            if found := _opened(path, shape):
                return found
            self.room.make(sum(_files(shape).values()))
            with made_whole(path) as folder:
                for name, size in _files(shape).items():
                    reserve(folder / name, size)
                spec, paths = view.spec, file_paths(self.images) or []
                size = f"{spec.width} x {spec.height} x {spec.channels}"
                write_about(folder, {"images": len(paths), "size": size, "of": os.path.commonpath(paths)})
        return DecodedViews(path, shape)

    def _key(self, view: EvaluationTransform) -> str:
        """Mean and std are no part of it: they come in later, on the device."""
        self._files = self._files or fingerprint(self.images)
        spec = view.spec
        parts = {
            "files": self._files,
            "view": [spec.channels, spec.height, spec.width, spec.interpolation, spec.crop_pct],
            "code": [(Path(images_module.__file__).parent / name).read_text(encoding="utf-8") for name in CODE],
            "versions": [version("pillow"), features.version("jpg"), version("torchvision")],
        }
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; 0 of one on which images would not be nearer than they are."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _files(shape: Shape) -> dict[str, int]:
    """Names and sizes of an entry's files."""
    return {PIXELS: int(np.prod(shape)), SUMS: 8 * shape[0]}


def _opened(path: Path, shape: Shape) -> DecodedViews | None:
    try:
        return DecodedViews(path, shape)
    except (OSError, ValueError):
        return None
