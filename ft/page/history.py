"""What a run has logged, read from its ``metrics.csv``."""

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class History:
    """What was logged.

    Attributes:
        epochs: From 1.
        columns: By name; ``None`` where an epoch lacks it.
    """

    epochs: list[int]
    columns: dict[str, list[float | None]]

    @classmethod
    def read(cls, file: Path) -> "History":
        """Of ``metrics.csv``; empty where a run has none, whose head was computed."""
        if not file.is_file():
            return cls([], {})
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        names = [name for name in (rows[0] if rows else {}) if name != "epoch"]
        columns = {name: [float(row[name]) if row[name] else None for row in rows] for name in names}
        return cls([int(row["epoch"]) + 1 for row in rows], columns)

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Epochs and values, where there is a value."""
        known = [(at, value) for at, value in zip(self.epochs, self.columns[name], strict=True) if value is not None]
        return [at for at, _ in known], [value for _, value in known]
