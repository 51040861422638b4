"""The folder of a sweep, and who may write into it.

runs/sweeps/NAME/   sweep.yaml    what was asked
                    trials.json   what has come of it, a trial at a time
                    jobs/KEY/     see ft/job_folder.py
                    runs/000_KEY/ ordinary run folders
runs/sweeps/last    points to the newest
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ft.errors import UserError, did_you_mean
from ft.job_folder import JobFolder
from ft.run_folder import write_whole


class SweepFolder:
    """Paths of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def named(cls, name: str, *, runs_dir: str) -> "SweepFolder":
        """Of a sweep that may not be there yet."""
        return cls(sweeps_below(runs_dir) / name)

    @classmethod
    def find(cls, name: str, *, runs_dir: str, key: str) -> "SweepFolder":
        """A sweep that is there: a path, a name below ``runs_dir/sweeps``, or ``last``.

        Raises:
            UserError: There is none of this name.
        """
        below = sweeps_below(runs_dir)
        for path in (below / name, Path(name).expanduser()):
            if (path / "sweep.yaml").is_file():
                return cls(path.resolve())
        names = sorted(file.parent.name for file in below.glob("*/sweep.yaml") if file.parent.name != "last")
        hint = did_you_mean(name, names) or ("" if names else f" {below} holds no sweeps.")
        raise UserError(f"{key}={name} is not a sweep: it has no sweep.yaml.{hint}")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def study(self) -> Path:
        """Of Optuna."""
        return self.path / "study.db"

    def job(self, key: str) -> JobFolder:
        return JobFolder(self.path / "jobs" / key)

    def run(self, number: int, key: str) -> Path:
        """Where the training run of a trial is to be."""
        return self.path / "runs" / f"{number:03d}_{key}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process works on this sweep.

        Raises:
            UserError: One does, or the folder cannot be written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise UserError(
                f"another process works on the sweep {self.path}. Wait for it, or give this one a name: sweep.name=NAME"
            ) from None
        except OSError as error:
            raise UserError(
                f"the sweep folder {self.path} cannot be written to: {error.strerror}. "
                "Set runs_dir to a folder you can write to."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def asked(self) -> dict[str, Any]:
        """What was asked; empty for a new sweep."""
        file = self.path / "sweep.yaml"
        if not file.is_file():
            return {}
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{file} is damaged: {str(error).splitlines()[0]}.") from None
        if not isinstance(content, dict):
            raise UserError(f"{file} is damaged: it holds no keys and values.")
        return content

    def ask(self, content: Mapping[str, Any]) -> None:
        """Writes what is asked, and points ``last`` here."""
        write_whole(self.path / "sweep.yaml", yaml.safe_dump(dict(content), sort_keys=False))
        fresh = self.path.with_name(f".last.{os.getpid()}.{secrets.token_hex(2)}")
        fresh.symlink_to(self.path.name, target_is_directory=True)
        fresh.replace(self.path.with_name("last"))

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One row a trial, for the report and whoever looks."""
        write_whole(self.path / "trials.json", json.dumps(list(rows), indent=1) + "\n")


def sweeps_below(runs_dir: str) -> Path:
    """Where sweeps are."""
    return Path(runs_dir).expanduser().absolute() / "sweeps"
