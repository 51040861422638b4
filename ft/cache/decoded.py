"""Decoded once: plain views of a split's images in a memory map that epochs, worker processes, runs and sweeps share.

    decoded/<key>/  pixels.u8  sums.u64  about.json     their place on the disk is taken when they are made

The key says what pixels depend on: files with sizes and times of change, the view, the code and libraries that make it.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import features
from torch import Tensor
from torch.utils.data import get_worker_info

from ft.cache.decoded_views import DecodedViews, Shape, files_of, opened
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
from ft.data.source import Images
from ft.data.transforms import EvaluationTransform

# What turns a file into pixels: an entry is good for as long as none of it changes.
CODE = ("images.py", "transforms.py")
# Share of the disk that stays free.
FREE_DISK = 0.1


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
        self._told = self._told_damage = False

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

    def damaged(self, what: str) -> None:
        """Says that something was not what had been written."""
        if not self._told_damage:
            self._told_damage = True
            self.tell(f"cache: {what}; it is decoded again")


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

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens what it needs for itself, and knows what there was no room for.
        return {**vars(self), "_open": {view: None for view, views in self._open.items() if views is None}}

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
                self._open[view] = opened(path, shape, self.room.damaged) or self._made(path, shape, view)
                touch(path)
            except OSError as error:
                self.room.refuse(sum(files_of(shape).values()), error)
                self._open[view] = None
        return self._open[view]

    def _made(self, path: Path, shape: Shape, view: EvaluationTransform) -> DecodedViews:
        with locked(path):
            if found := opened(path, shape, self.room.damaged):
                return found
            self.room.make(sum(files_of(shape).values()))
            with made_whole(path) as folder:
                for name, size in files_of(shape).items():
                    reserve(folder / name, size)
                spec, paths = view.spec, [os.path.abspath(path) for path in file_paths(self.images) or []]
                size = f"{spec.width} x {spec.height} x {spec.channels}"
                write_about(folder, {"images": len(paths), "size": size, "of": os.path.commonpath(paths)})
        return DecodedViews(path, shape, self.room.damaged)

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
