"""What was found out about files: they need not be looked at again until one of them changes.

    decoded/readable-<key>/about.json    depth headers or pixels; which cannot be read, and why

The key says what that depends on: names, sizes and times of change, how deep the look was, the code and libraries.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import features

from ft.cache.folder import locked, make, place, read_about, touch, write_about
from ft.data import images as images_module
from ft.data.check import POLICIES, file_paths, find_bad, leave_out
from ft.data.fingerprint import fingerprint
from ft.data.source import Chosen, Images, Source
from ft.errors import one_of

DECODERS = ("pil", "jpg", "zlib", "libtiff", "webp")


def drop_unreadable_once(source: Source, *, on_bad: str, decode: bool) -> Source:
    """``ft.data.check.drop_unreadable``, which reads no file while none has changed since it looked at them.

    Of several processes one looks and the others wait for what it finds.
    """
    one_of(on_bad, POLICIES, "data.on_bad")
    known = {name: fingerprint(split.images) for name, split in source.splits.items()}
    if None in known.values():
        return leave_out(source, _look(source, decode=decode), on_bad)
    path = place("decoded", f"readable-{_key(known, decode=decode)}")
    with ExitStack() as stack:
        found = _recalled(path, source, decode=decode)
        if found is None:
            with suppress(OSError):  # a cache that cannot be written to
                stack.enter_context(locked(path))
                found = _recalled(path, source, decode=decode)
        if found is None:
            found = _look(source, decode=decode)
            with suppress(OSError):
                _remember(path, source, found, decode=decode)
    return leave_out(source, found, on_bad)


def _look(source: Source, *, decode: bool) -> dict[str, dict[int, str]]:
    return {name: find_bad(split.images, decode=decode) for name, split in source.splits.items()}


def _recalled(path: Path, source: Source, *, decode: bool) -> dict[str, dict[int, str]] | None:
    """What was found; of what could not even be opened, which no fingerprint tells from what can be, what is so now."""
    about = read_about(path)
    if "unreadable" not in about:
        return None
    touch(path)
    found = {}
    for name, split in source.splits.items():
        found[name] = {int(at): why for at, why in about["unreadable"][name].items()}
        shut = about["shut"][name]
        again = find_bad(Chosen(split.images, np.array(shut, dtype=np.int64)), decode=decode)
        found[name] = {at: why for at, why in found[name].items() if at not in shut}
        found[name] |= {shut[at]: why for at, why in again.items()}
    return found


def _remember(path: Path, source: Source, found: Mapping[str, Mapping[int, str]], *, decode: bool) -> None:
    write_about(
        make(path),
        {
            "images looked at": sum(len(split) for split in source.splits.values()),
            "depth": "pixels" if decode else "headers",
            "unreadable": found,
            "shut": {name: _shut(split.images, found[name]) for name, split in source.splits.items()},
        },
    )


def _shut(images: Images, found: Iterable[int]) -> list[int]:
    """Those of some positions whose files cannot be opened."""
    paths = file_paths(images) or []
    return [at for at in found if not (os.path.isfile(paths[at]) and os.access(paths[at], os.R_OK))]


def _key(known: Mapping[str, Any], *, decode: bool) -> str:
    code = Path(images_module.__file__).read_text(encoding="utf-8")
    versions = [features.version(name) for name in DECODERS]
    return hashlib.blake2b(repr([known, decode, code, versions]).encode(), digest_size=12).hexdigest()
