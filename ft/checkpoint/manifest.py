"""What a checkpoint's files were when they were written, where it comes from, and the check against it.

    {"format": 2,
     "files": {"weights.safetensors": {"bytes": 1613, "sha256": "9f86..."}, "state.pt": {...}},
     "epoch": 4, "global_step": 99, "written": "2026-01-31T13:05:09+00:00", "versions": {"torch": "2.15.0", ...},
     "config": "60303a...",   sha256 of the run's config
     "parent": "d74ff0...",   sha256 of the manifest of the checkpoint that training went on from
     "sha256": "ef2d12..."}   of all this without this entry: no bit changes unnoticed, and it names the checkpoint

Format 1, of older runs, has neither the last three nor ``written``.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft.errors import UserError

WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "manifest.json"
OF_FORMAT_1 = {"format", "files", "epoch", "global_step", "versions"}


class Damaged(UserError):
    """A file of a checkpoint is not what was written."""


def describe(file: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    with file.open("rb") as content:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def hash_of(content: Any) -> str:
    """sha256 of plain values, whatever the order of their names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with its own hash."""
    plain = {key: value for key, value in content.items() if key != "sha256"}
    return {**plain, "sha256": hash_of(plain)}


def rendered(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as its file holds it, byte for byte."""
    return json.dumps(manifest, indent=2).encode()


def verify(folder: Path) -> dict[str, Any]:
    """Checks every file of a checkpoint against its manifest, and the manifest against itself.

    Returns:
        The manifest.

    Raises:
        UserError: There is no checkpoint, or it cannot be read.
        Damaged: A file is missing or not what was written; says which, and both hashes.
    """
    manifest = read_manifest(folder)
    for name, wanted in manifest["files"].items():
        try:
            found = describe(folder / name)
        except FileNotFoundError:
            raise Damaged(f"the checkpoint {folder} is damaged: {name} is missing.") from None
        except OSError as error:
            raise Damaged(f"the checkpoint {folder} is damaged: {name} cannot be read ({error.strerror}).") from None
        if found != wanted:
            raise Damaged(
                f"the checkpoint {folder} is damaged: {name} has sha256 {found['sha256'][:16]} and "
                f"{found['bytes']} bytes, written were {wanted['sha256'][:16]} and {wanted['bytes']}."
            )
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, checked against itself alone.

    Raises:
        UserError: There is none, or it cannot be read.
        Damaged: It is not what was written.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a checkpoint: it has no {MANIFEST}.") from None
    except OSError as error:
        raise UserError(f"the checkpoint {folder} cannot be read: {MANIFEST}: {error.strerror}.") from None
    found = hashlib.sha256(raw).hexdigest()
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Damaged(
            f"the checkpoint {folder} is damaged: {MANIFEST} has sha256 {found[:16]} and {len(raw)} bytes, and is not "
            f"JSON ({error})."
        ) from None
    if not isinstance(manifest, dict):
        raise Damaged(f"the checkpoint {folder} is damaged: {MANIFEST} has sha256 {found[:16]} and lists nothing.")
    if manifest.keys() == OF_FORMAT_1 and manifest["format"] == 1:
        manifest["sha256"] = found
    elif rendered(sealed(manifest)) != raw:
        written = str(manifest.get("sha256", "nothing"))
        raise Damaged(
            f"the checkpoint {folder} is damaged: {MANIFEST} has sha256 {sealed(manifest)['sha256'][:16]}, "
            f"written was {written[:16]}."
        )
    if not _is_list_of_files(manifest["files"]):
        raise Damaged(f"the checkpoint {folder} is damaged: {MANIFEST} does not list {WEIGHTS} and {STATE}.")
    return manifest


def _is_list_of_files(files: Any) -> bool:
    # These names and no others: a path would lead out of the folder.
    if not isinstance(files, dict) or files.keys() != {WEIGHTS, STATE}:
        return False
    kinds = {"bytes": int, "sha256": str}
    return all(
        isinstance(each, dict) and {key: type(value) for key, value in each.items()} == kinds for each in files.values()
    )
