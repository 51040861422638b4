"""Which files a run was begun with, so that one that goes on notices when they are others.

A file is the same if its size and its time of change are. If only the time differs, as after copying or ``touch``, what
is in it decides: a hash of the whole of a small file, of three parts of a large one.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ft.data.check import file_paths
from ft.data.fingerprint import fingerprint
from ft.data.source import Images

# Files of up to so many bytes are read whole, larger ones this much at three places.
SMALL = 64 * 1024
PART = 16 * 1024
# Beyond so many images only sizes and times are kept: reading them would take minutes.
MOST_READ = 100_000
# In a message; more would not be read.
SHOWN = 3


def describe(
    images: Mapping[str, Images], names: Mapping[str, Sequence[str]], targets: Mapping[str, Tensor], *, read: bool
) -> dict[str, Any]:
    """What ``changes`` needs to know, as JSON holds it.

    Args:
        images: By split.
        names: Of each of them.
        targets: Of each of them.
        read: Whether files are opened, for their hashes.
    """
    return {split: _describe(images[split], names[split], targets[split], read=read) for split in images}


def changes(before: Mapping[str, Any], now: Mapping[str, Any], paths: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What is other than it was, for people; a file that has only been touched is not.

    Args:
        before: From ``describe``.
        now: From ``describe``, without hashes where they cost time.
        paths: By split, the file behind each name.
    """
    gone = [f"split {split} is gone" for split in before if split not in now]
    if gone:
        return gone
    was, are = _all_files(before), _all_files(now)
    where = {name: path for each in paths.values() for name, path in each.items()}
    found = [f"{name} is missing" for name in was if name not in are]
    found += [f"{name} is new" for name in are if name not in was]
    for name, (size, changed, content) in was.items():
        # Only what the directory says differently is opened.
        if name in are and [size, changed] != are[name][:2]:
            same = size == are[name][0] and content is not None and _hash(where[name]) == content
            found += [] if same else [f"{name} has changed"]
    if found:
        return found
    for split, old in before.items():
        new = now[split]
        if old["pixels"] != new["pixels"]:
            found.append(f"the images of {split} have changed")
        elif list(old["files"]) != list(new["files"]):
            found.append(f"other images are in {split}, or in another order")
        elif old["targets"] != new["targets"]:
            found.append(f"labels of {split} have changed")
    return found


def _all_files(described: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: facts for split in described.values() for name, facts in split["files"].items()}


def told(found: Sequence[str]) -> str:
    """The first few changes in one line."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _describe(images: Images, names: Sequence[str], targets: Tensor, *, read: bool) -> dict[str, Any]:
    paths = dict(zip(names, file_paths(images) or (), strict=False))
    reads = read and len(paths) <= MOST_READ
    with ThreadPoolExecutor(4) as pool:
        facts = list(pool.map(lambda path: _facts(path, read=reads), paths.values()))
    labels = hashlib.sha256(targets.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
    return {
        "files": dict(zip(paths, facts, strict=True)),
        "pixels": None if paths else fingerprint(images),
        "targets": labels,
    }


def _facts(path: str, *, read: bool) -> list[Any]:
    """Size, time of change and hash."""
    try:
        stat = os.stat(path)
    except OSError:
        return [None, None, None]
    return [stat.st_size, stat.st_mtime_ns, _hash(path) if read else None]


def _hash(path: str) -> str | None:
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            if size <= SMALL:
                return hashlib.sha256(file.read()).hexdigest()
            digest = hashlib.sha256()
            for start in (0, (size - PART) // 2, size - PART):
                file.seek(start)
                digest.update(file.read(PART))
            return digest.hexdigest()
    except OSError:
        return None
