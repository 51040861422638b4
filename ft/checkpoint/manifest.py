"""The list of a checkpoint's files with their sizes and hashes, and the check against it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ft.errors import UserError

WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "manifest.json"


def describe(file: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    with file.open("rb") as content:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def verify(folder: Path) -> dict[str, Any]:
    """Checks every file of a checkpoint against its manifest.

    Returns:
        The manifest.

    Raises:
        UserError: There is no checkpoint, or a file is missing or not what was written.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is not a checkpoint: it has no {MANIFEST}.") from None
    except ValueError as error:
        raise UserError(f"the checkpoint {folder} is damaged: {MANIFEST} is not JSON ({error}).") from None
    for name, wanted in manifest["files"].items():
        try:
            found = describe(folder / name)
        except FileNotFoundError:
            raise UserError(f"the checkpoint {folder} is damaged: {name} is missing.") from None
        if found != wanted:
            raise UserError(
                f"the checkpoint {folder} is damaged: {name} has sha256 {found['sha256'][:16]} and "
                f"{found['bytes']} bytes,\nwritten were {wanted['sha256'][:16]} and {wanted['bytes']}."
            )
    return manifest
