"""Reading what somebody else may have written: JSON and tensors, of which nothing runs, and names that stay names."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_NAME = 120


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: The file cannot be read, is no JSON, or holds something else than an object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    # The latter: a list in a list in a list, ten thousand times.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON ({error}): it is damaged; make it anew, or delete it.") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is damaged: it holds a {type(found).__name__} in place of names and values.")
    return found


def read_tensors(file: Path) -> dict[str, "Tensor"]:
    """Every tensor of a safetensors file.

    Raises:
        UserError: The file cannot be read, or its header does not fit it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{file} is damaged: {str(error).splitlines()[0]}") from None


def is_plain_name(name: Any) -> bool:
    """Whether text can be the name of one file or folder, below the folder it is put in, on every system."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        return False
    return (
        not set(name) & set('/\\:*?"<>|')
        and name.strip(". ") == name
        and name.partition(".")[0].upper()
        not in (
            *("CON", "PRN", "AUX", "NUL"),
            *(f"{device}{number}" for device in ("COM", "LPT") for number in range(1, 10)),
        )
    )
