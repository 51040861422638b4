"""Which images these are, without decoding them: equal fingerprints mean equal pixels."""

import hashlib
import os

import numpy as np

from ft.data.source import ArrayImages, Chosen, FileImages, Images

# A name may be no UTF-8.
NAMES = ("utf-8", "surrogateescape")


def fingerprint(images: Images) -> str | None:
    """Of files their names, sizes and times of change; of arrays their pixels; ``None`` where neither can be told."""
    digest = hashlib.sha256()
    if isinstance(images, FileImages):
        for path in images.paths:
            try:
                stat = os.stat(path)
                digest.update(f"{os.path.abspath(path)}\n{stat.st_size} {stat.st_mtime_ns}\n".encode(*NAMES))
            except (OSError, ValueError):
                digest.update(f"{path}\nmissing\n".encode(*NAMES))
    elif isinstance(images, ArrayImages):
        digest.update(f"{images.pixels.shape} {images.pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(images.pixels).data)
    elif isinstance(images, Chosen):
        below = fingerprint(images.images)
        if below is None:
            return None
        digest.update(below.encode())
        digest.update(np.ascontiguousarray(images.positions, dtype=np.int64).data)
    else:
        return None
    return digest.hexdigest()
