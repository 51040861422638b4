"""``metrics.csv``: one row an epoch, every value that was logged in it a column."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ft.run_folder import write_whole


class MetricsCsv(Logger):
    """Collects what is logged, by epoch; a resumed run goes on with the rows it has.

    Not Lightning's ``CSVLogger``: that writes several half-empty rows an epoch, and deletes the file on resuming.

    Args:
        file: The CSV file.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.rows: dict[int, dict[str, float]] = {}
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                for row in csv.DictReader(lines):
                    numbers = {key: float(value) for key, value in row.items() if value}
                    self.rows[int(numbers.pop("epoch"))] = numbers

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run folder has the whole configuration already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = dict(metrics)
        epoch = int(row.pop("epoch", -1))
        # Final test values belong to no epoch; the summary has them.
        if epoch >= 0 and not any(key.startswith("test/") for key in row):
            self.rows.setdefault(epoch, {}).update({"step": float(step or 0), **row})

    @rank_zero_only
    def save(self) -> None:
        """Writes all rows."""
        if not self.rows:
            return
        columns = list(dict.fromkeys(key for row in self.rows.values() for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **_plain(row)} for epoch, row in sorted(self.rows.items()))
        write_whole(self.file, text.getvalue())

    def write_epoch(self, trainer: Trainer) -> None:
        """Writes what the epoch that is about to end has logged; Lightning hands it over only after the checkpoint.

        To be called in every process: values are gathered.
        """
        results = trainer._results  # the public values still hold what earlier epochs have logged
        assert results is not None
        logged = {name: float(value) for name, value in results.metrics(on_step=False)["log"].items()}
        # Validation has written the step already, where there was one.
        step = self.rows.get(trainer.current_epoch, {}).get("step", trainer.global_step - 1)
        self.log_metrics({"epoch": trainer.current_epoch, **logged}, step=int(step))
        self.save()

    def forget_from(self, epoch: int) -> None:
        """Drops the rows of epochs that a resumed run computes again."""
        self.rows = {known: row for known, row in self.rows.items() if known < epoch}


def _plain(row: dict[str, float]) -> dict[str, float | int]:
    return {key: int(value) if key == "step" else value for key, value in row.items()}
