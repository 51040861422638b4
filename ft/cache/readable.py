"""Files that were all found to be images before: their headers need not be read again at every start."""

import hashlib
from contextlib import suppress
from importlib.metadata import version

from ft.cache.folder import make, place, read_about, touch, write_about
from ft.data.check import drop_unreadable, file_paths
from ft.data.fingerprint import fingerprint
from ft.data.source import Source


def drop_unreadable_once(source: Source, *, on_bad: str) -> Source:
    """``ft.data.check.drop_unreadable``, which reads no file while none has changed since all could be read."""
    splits = [split.images for split in source.splits.values() if file_paths(split.images)]
    if not splits:
        return drop_unreadable(source, on_bad=on_bad)
    parts = [*(fingerprint(images) for images in splits), version("pillow")]
    path = place("decoded", f"readable-{hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()}")
    if read_about(path):
        touch(path)
        return drop_unreadable(source, on_bad=on_bad, known=True)
    checked = drop_unreadable(source, on_bad=on_bad)
    if not checked.bad:
        with suppress(OSError):
            write_about(make(path), {"readable images": sum(len(images) for images in splits)})
    return checked
