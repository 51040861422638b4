"""What a sweep's report is made from: its rows, what was asked, and its run folders."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ft.errors import UserError
from ft.inference.predictions import FOLDER, Predictions
from ft.job_folder import FAILED, FINISHED
from ft.page.history import History
from ft.sweeps.ranking import best_first
from ft.sweeps.words import params_in_words, short_names, value_in_words

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """One sweep.

    Attributes:
        folder: Of the sweep.
        asked: ``sweep.yaml``.
        rows: ``trials.json``.
    """

    folder: Path
    asked: Mapping[str, Any]
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> "Material":
        """Of a sweep that has begun.

        Raises:
            UserError: It has no trials yet, or a file is damaged.
        """
        files = folder / "sweep.yaml", folder / "trials.json"
        for file in files:
            if not file.is_file():
                raise UserError(f"{folder} has no {file.name}: there is nothing to report of this sweep yet.")
        try:
            asked, rows = yaml.safe_load(files[0].read_text("utf-8")), json.loads(files[1].read_text("utf-8"))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{folder} has a damaged file: {str(error).splitlines()[0]}") from None
        if not isinstance(asked, dict) or not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise UserError(f"{folder} has a damaged file: its sweep.yaml and trials.json are not those of a sweep.")
        return cls(folder, asked, rows)

    @property
    def metric(self) -> str:
        return self.asked["metric"]

    @property
    def mode(self) -> str:
        return self.asked["mode"]

    @property
    def measure(self) -> str:
        """The metric without its split, as ``ft.scoring`` knows it."""
        return self.metric.rpartition("/")[2]

    @property
    def is_of_backbones(self) -> bool:
        """Whether trials are candidates that were looked at, without training."""
        return self.asked.get("method") == "backbones"

    @cached_property
    def ranked(self) -> list[Row]:
        """Trials that can be ranked, the best first."""
        return best_first(self.rows, self.mode)

    @cached_property
    def searched(self) -> list[Row]:
        """Trials whose values can be compared, best first: where all were screened, with the values of that."""
        screened = [
            {**row, "value": row["screened"], "state": FINISHED}
            for row in self.rows
            if row.get("screened") is not None and row["state"] != FAILED
        ]
        return best_first(screened, self.mode) if screened else self.ranked

    @cached_property
    def searched_metric(self) -> str:
        """What their values are."""
        return self.metric if self.searched is self.ranked else f"{self.metric} when screened"

    @cached_property
    def keys(self) -> list[str]:
        """Parameters, in the order in which they came up."""
        return list(dict.fromkeys(key for row in self.rows for key in row["params"]))

    @cached_property
    def varied(self) -> list[str]:
        """Those that are not the same in all trials."""
        absent = object()
        return [
            key
            for key in self.keys
            if len({json.dumps(row["params"][key]) if key in row["params"] else absent for row in self.rows}) > 1
        ]

    @cached_property
    def names(self) -> dict[str, str]:
        """Key to its short name."""
        return short_names(self.keys)

    def is_log(self, key: str) -> bool:
        """Whether the parameter was searched on a logarithmic scale."""
        return "tag(log" in self._space(key)

    def is_interval(self, key: str) -> bool:
        """Whether every number between two ends could be chosen."""
        return "interval(" in self._space(key)

    def _space(self, key: str) -> str:
        """The search space of a parameter, as it was written but for spaces."""
        return str((self.asked.get("space") or {}).get(key, "")).replace(" ", "")

    def is_number(self, key: str) -> bool:
        """Whether all of the parameter's values are numbers."""
        values = [row["params"][key] for row in self.rows if key in row["params"]]
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)

    def name_of(self, row: Row) -> str:
        """What a sentence calls a trial: the value of the only parameter that varies, else its number."""
        if self.is_of_backbones:
            return value_in_words(next(iter(row["params"].values())))
        value = row["params"].get(self.varied[0]) if len(self.varied) == 1 else None
        return f"trial {row['number']}" if value is None else value_in_words(value)

    def words_of(self, row: Row) -> str:
        """What varies in a trial; empty where nothing does."""
        params = {key: value for key, value in row["params"].items() if key in self.varied}
        return params_in_words(params, self.names) if params else ""

    def run(self, job: Mapping[str, Any]) -> Path:
        """The run folder of a job."""
        return self.folder / job["run"]

    def history(self, job: Mapping[str, Any]) -> History:
        """What the run of a job has logged; empty where it has none."""
        return History.read(self.run(job) / "metrics.csv")

    def predictions(self, row: Row) -> dict[int, Predictions]:
        """Seed to what that run of the trial said of the validation images, where it is stored."""
        return {
            job["seed"]: Predictions.load(self.run(job), "val")
            for job in row["jobs"]
            if job["status"] == FINISHED and (self.run(job) / FOLDER / "val.safetensors").is_file()
        }


def _is_row(row: Any) -> bool:
    """Whether it looks like a trial, whose runs are in the sweep's own folder."""
    if not isinstance(row, dict) or not isinstance(row.get("params"), dict) or not isinstance(row.get("jobs"), list):
        return False
    runs = [Path(str(job.get("run", ""))) if isinstance(job, dict) else Path("..") for job in row["jobs"]]
    return not any(run.is_absolute() or ".." in run.parts for run in runs)
