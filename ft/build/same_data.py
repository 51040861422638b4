"""``data.changed``: a run that goes on is told when its images are not those it was begun with."""

import json
import shutil
from typing import Any

from ft.build.data import Data
from ft.build.trainer import process_rank
from ft.data.check import file_paths
from ft.data.files import changes, describe, told
from ft.errors import UserError, one_of
from ft.run_folder import RunFolder
from ft.show.console import warning

FILE = "data_files.json"


def keep(data: Data, folder: RunFolder) -> None:
    """Writes down which images a new run begins with."""
    folder.write_json(FILE, _described(data, read=True))


def copy(source: RunFolder, target: RunFolder) -> None:
    """Gives a run what another of the same data was begun with, where that is known."""
    if (source.path / FILE).is_file():
        shutil.copyfile(source.path / FILE, target.path / FILE)


def check(data: Data, folder: RunFolder, settings: dict[str, Any]) -> None:
    """Compares them with what the run was begun with, where that is known.

    Args:
        data: As it is now.
        folder: Of the run that goes on.
        settings: ``data`` of its config.

    Raises:
        UserError: Some are others, and ``data.changed=error``.
    """
    one_of(settings["changed"], ("error", "warn"), "data.changed")
    try:
        before = json.loads((folder.path / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return  # of before there was such a file
    except ValueError:
        raise UserError(f"{folder.path / FILE} is damaged. Remove it to go on without knowing.") from None
    paths = {
        name: dict(zip(split.names, file_paths(split.images) or (), strict=False))
        for name, split in data.splits.items()
    }
    found = changes(before, _described(data, read=False), paths)
    if not found:
        return
    if settings["changed"] == "error":
        raise UserError(
            f"the data is not what this run was begun with: {told(found)}.\n"
            "Begin a new run, or set data.changed=warn to go on all the same."
        )
    warning(f"the data is not what this run was begun with: {told(found)}; data.changed=warn goes on")
    if process_rank() == 0:
        keep(data, folder)


def _described(data: Data, *, read: bool) -> dict[str, Any]:
    splits = data.splits
    return describe(
        {name: split.images for name, split in splits.items()},
        {name: split.names for name, split in splits.items()},
        {name: split.targets for name, split in splits.items()},
        read=read,
    )
