"""Where a run lists the images that it left out, from before training on.

    RUN/bad_images.json               name and reason of each
with data.on_bad=quarantine also

    RUN/quarantine/quarantine.json    name, reason, file, bytes and sha256 of each
    RUN/quarantine/3fa2c01b_1.jpg     a link to it

The files stay where they are and as they are. Links and no copies: a copy may be large, is of somebody's data, and a
run folder is handed on.
"""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ft.data.bad_images import BadImages
from ft.data.images import printable
from ft.run_folder import RunFolder

LIST, FOLDER, LISTED = "bad_images.json", "quarantine", "quarantine.json"


def list_bad_images(folder: RunFolder, bad: BadImages) -> dict[str, str]:
    """Writes what is known by now, with what an earlier part of the same run had found.

    Returns:
        Name and reason of all of them.
    """
    found = {**_earlier(folder.path / LIST), **bad.found}
    if found:
        folder.write_json(LIST, found)
    if bad.on_bad == FOLDER and bad.paths:
        quarantine(folder.path / FOLDER, bad)
    return found


def quarantine(place: Path, bad: BadImages) -> None:
    """Makes the folder with the list and the links.

    Args:
        place: Of the folder.
        bad: Those with a file are listed.
    """
    place.mkdir(exist_ok=True)
    listed = {name: _entry(name, Path(path), bad.found[name]) for name, path in bad.paths.items()}
    for name, path in bad.paths.items():
        # It is there already; or the file system knows no links, and the list says it all.
        with suppress(OSError):
            (place / listed[name]["link"]).symlink_to(Path(path).absolute())
    RunFolder(place).write_json(LISTED, {**_earlier(place / LISTED), **listed})


def gather(bad: BadImages) -> None:
    """Tells every process what all of them have met."""
    if dist.is_available() and dist.is_initialized():
        everybody: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everybody, (bad.found, bad.paths))
        for found, paths in everybody:
            bad.found.update(found)
            bad.paths.update(paths)


def _entry(name: str, path: Path, why: str) -> dict[str, Any]:
    """What the list says of one. The link's name is ours, whatever the file is called."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name.rpartition("/")[2])[-60:]
    link = f"{hashlib.sha256(name.encode()).hexdigest()[:8]}_{plain}"
    return {"why": why, "file": printable(str(path.absolute())), "link": link, **_sum(path)}


def _sum(path: Path) -> dict[str, Any]:
    """Bytes and sha256; ``None`` each of what is no file, or cannot be opened."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as content:
                return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}
    return {"bytes": None, "sha256": None}


def _earlier(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
