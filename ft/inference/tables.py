"""Rows to a file, as they come: CSV or Parquet."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ft.errors import UserError, require_extra

# Rows in memory at a time; what pyarrow calls a row group.
GROUP = 10_000


class Table(Protocol):
    """An open table."""

    def write(self, row: Sequence[Any]) -> None: ...


@contextmanager
def csv_table(path: Path, columns: Mapping[str, type]) -> Iterator[Table]:
    """UTF-8, a header line, empty cells for ``None``, ``true`` and ``false``."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([readable(name) for name in columns])

        class Lines:
            def write(self, row: Sequence[Any]) -> None:
                writer.writerow([str(each).lower() if isinstance(each, bool) else _cell(each) for each in row])

        yield Lines()


@contextmanager
def parquet_table(path: Path, columns: Mapping[str, type]) -> Iterator[Table]:
    """Strings, doubles and booleans; null for ``None``."""
    import pyarrow
    from pyarrow import parquet

    kinds = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(readable(name), kinds[kind]) for name, kind in columns.items()])
    waiting: list[Sequence[Any]] = []

    with parquet.ParquetWriter(path, schema) as out:

        def flush() -> None:
            if waiting:
                arrays = [list(values) for values in zip(*waiting, strict=True)]
                out.write_table(pyarrow.table(arrays, schema=schema))
                waiting.clear()

        class Groups:
            def write(self, row: Sequence[Any]) -> None:
                pairs = zip(row, columns.values(), strict=True)
                # A whole number of more than 64 bits is no double to pyarrow.
                waiting.append(
                    [float(each) if kind is float and each is not None else _cell(each) for each, kind in pairs]
                )
                if len(waiting) == GROUP:
                    flush()

        yield Groups()
        flush()


TABLES = {".csv": csv_table, ".parquet": parquet_table}


def require_ending(path: Path, endings: Sequence[str], key: str) -> None:
    """Refuses a file whose ending says nothing about how to write it.

    Raises:
        UserError: It is not among ``endings``, or its package is not installed.
    """
    if path.suffix.lower() not in endings:
        known = ", ".join(ending.removeprefix(".") for ending in endings)
        raise UserError(f"{key}={path} must end in one of: {known}; it says how to write the file.")
    if path.suffix.lower() == ".parquet":
        require_extra("pyarrow", "parquet", f"{key}={path}")


def readable(name: str) -> str:
    r"""A file name that is not UTF-8, as some disks have them, with its odd bytes as ``\udcff``."""
    return name.encode("utf-8", "backslashreplace").decode()


def _cell(value: Any) -> Any:
    return readable(value) if isinstance(value, str) else value
