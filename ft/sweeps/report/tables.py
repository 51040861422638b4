"""``sweep.csv`` and, where pyarrow is installed, ``sweep.parquet``: one row a trial."""

from importlib.util import find_spec
from typing import Any

from ft.inference.tables import csv_table, parquet_table
from ft.sweeps.report.material import Material
from ft.sweeps.report.uncertainty import seed_values, spread
from ft.sweeps.words import value_in_words

TABLES = {"sweep.csv": csv_table, "sweep.parquet": parquet_table}


def write_tables(material: Material) -> list[str]:
    """Writes each as a whole, and returns the names of the files that were written."""
    columns, rows = table(material)
    written = []
    for name, opened in TABLES.items():
        if name.endswith(".parquet") and find_spec("pyarrow") is None:
            continue
        fresh = material.folder / f".{name}.new"
        with opened(fresh, columns) as out:
            for row in rows:
                out.write(row)
        fresh.replace(material.folder / name)
        written.append(name)
    return written


def table(material: Material) -> tuple[dict[str, type], list[list[Any]]]:
    """Columns with their types, and the rows; ``None`` where a trial has nothing."""
    first = {"number": float, "state": str}
    params = {key: float if material.is_number(key) else str for key in material.keys}
    screened = any(row.get("screened") is not None for row in material.rows)
    last = {"value": float, "spread": float, "seeds": float, **({"screened": float} if screened else {})}
    ends = {"seconds": float, "runs": str}
    metrics = [name for row in material.rows for name in row["metrics"] if name not in {*first, *last, *ends}]
    columns: dict[str, type] = {**first, **params, **last, **dict.fromkeys(metrics, float), **ends}
    rows = []
    for row in material.rows:
        given = row["params"]
        told = [
            None if key not in given else given[key] if kind is float else value_in_words(given[key])
            for key, kind in params.items()
        ]
        measured = [row["metrics"].get(name) for name in dict.fromkeys(metrics)]
        runs = " ".join(job["run"] for job in row["jobs"])
        rows.append(
            [row["number"], row["state"], *told, row["value"], spread(row), len(seed_values(row)),
             *([row.get("screened")] if screened else []), *measured, row["seconds"], runs]
        )  # fmt: skip
    return columns, rows
