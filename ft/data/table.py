"""A CSV file that lists images: file name, a label or label columns, and perhaps the split."""

import csv
import os
from pathlib import Path

import numpy as np

from ft.data.folder import SPLIT_NAMES
from ft.data.source import FileImages, Source, Split
from ft.errors import UserError, did_you_mean


def table(
    *,
    csv_file: str | None,
    images: str | None,
    file_column: str | None,
    label: str | list[str] | None,
    split_column: str | None,
    numeric: bool,
) -> Source:
    """Reads the table; no image is opened yet.

    Args:
        csv_file: The table, with a header line.
        images: Folder that the file names are relative to; the table's own folder by default.
        file_column: Column of file names; the first by default.
        label: Column of class names or values, or a list of columns; by default all that are not file or split.
        split_column: Column with train, val or test; by default ``split`` if there is one.
        numeric: Whether the labels are numbers (several labels, regression) instead of one class name.

    Raises:
        UserError: The file or a column is missing, a row's image does not exist, a value is no number.
    """
    if not csv_file:
        raise UserError("data=table needs data.csv_file=PATH: a CSV file with a header line.")
    path = Path(csv_file).expanduser()
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            columns, rows = list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.csv_file={csv_file} cannot be read: {error}.") from None
    if not rows:
        raise UserError(f"data.csv_file={csv_file} has no rows below its header line.")

    files = _column(file_column or columns[0], columns, "data.file_column")
    splits = split_column and _column(split_column, columns, "data.split_column")
    if splits is None and "split" in columns:
        splits = "split"
    labels = [label] if isinstance(label, str) else list(label or [c for c in columns if c not in (files, splits)])
    for name in labels:
        _column(name, columns, "data.label")
    if not labels:
        raise UserError(f"data.csv_file={csv_file} has no label column; its columns are {', '.join(columns)}.")
    if len(labels) > 1 and not numeric:
        raise UserError(
            f"data.label names {len(labels)} columns ({', '.join(labels)}), and task=classification takes one. "
            "Name one with data.label=COLUMN, or set task=multilabel or task=regression."
        )

    folder = Path(images).expanduser() if images else path.parent
    members: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        members.setdefault(_split_name(row, splits, number, csv_file), []).append(number)
        # Not Path.is_file, which raises for a name that is too long.
        if not os.path.isfile(folder / (row[files] or "")):
            raise UserError(
                f"data.csv_file={csv_file}, line {number + 2}: there is no image {row[files]!r} in {folder}. "
                "Change the row, or name the folder with data.images=PATH."
            )
    if "train" not in members:
        raise UserError(f"data.csv_file={csv_file} has no row with split train, in column {splits!r}.")
    values = _numbers(rows, labels, csv_file) if numeric else np.array([row[labels[0]] for row in rows])
    return Source(
        {
            name: Split(
                FileImages([str(folder / rows[at][files]) for at in positions]),
                values[positions],
                [rows[at][files] for at in positions],
            )
            for name, positions in members.items()
        },
        columns=tuple(labels) if numeric else (),
    )


def _column(name: str, columns: list[str], key: str) -> str:
    if name not in columns:
        raise UserError(f"{key}={name}: the columns are {', '.join(columns)}.{did_you_mean(name, columns)}")
    return name


def _split_name(row: dict[str, str], column: str | None, number: int, file: str) -> str:
    if column is None:
        return "train"
    for name, aliases in SPLIT_NAMES.items():
        if (row[column] or "").strip().lower() in aliases:
            return name
    raise UserError(f"data.csv_file={file}, line {number + 2}: split {row[column]!r} is none of train, val, test.")


def _numbers(rows: list[dict[str, str]], labels: list[str], file: str) -> np.ndarray:
    values = np.empty((len(rows), len(labels)), dtype=np.float32)
    for number, row in enumerate(rows):
        for at, name in enumerate(labels):
            try:
                values[number, at] = float(row[name])
            except (TypeError, ValueError):
                raise UserError(
                    f"data.csv_file={file}, line {number + 2}: {name}={row[name]!r} is no number. "
                    "If the column is not a label, list the label columns with data.label=[...]."
                ) from None
    return values
