"""The run folder: one a run, never shared, complete even when the run is interrupted.

runs/2026-01-31_14-05-09_3f9c2a/   config.yaml  metrics.csv  summary.json  classes.json  checkpoints/{best,last}
                                   reading.json  predictions/{val,test}.{safetensors,csv}
runs/last                          points to the newest
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ft.checkpoint.generations import current
from ft.checkpoint.not_written import writing
from ft.errors import UserError, did_you_mean

# Hands the folder to the processes that run the same command again for the other ranks.
ENVIRONMENT = "FT_RUN_FOLDER"


class RunFolder:
    """Paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def plan(cls, runs_dir: str) -> "RunFolder":
        """A new name below ``runs_dir``; nothing is made yet. Other ranks get the name their first rank chose."""
        if ENVIRONMENT in os.environ:
            return cls(Path(os.environ[ENVIRONMENT]))
        name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
        return cls(Path(runs_dir).expanduser().absolute() / name)

    @classmethod
    def find(cls, run: str, *, runs_dir: str, key: str) -> "RunFolder":
        """An existing run: a path, a name below ``runs_dir``, or ``last``.

        Raises:
            UserError: There is no such run.
        """
        below = Path(runs_dir).expanduser()
        for path in (Path(run).expanduser(), below / run):
            if (path / "config.yaml").is_file():
                return cls(path.resolve())
        names = sorted(entry.parent.name for entry in below.glob("*/config.yaml") if entry.parent.name != "last")
        hint = did_you_mean(run, [*names, "last"]) or (
            f" The newest is {names[-1]}." if names else f" {below} holds no runs."
        )
        raise UserError(f"{key}={run} is not a run folder: it has no config.yaml.{hint}")

    def create(self) -> None:
        """Makes the folder, and points ``last`` to it.

        Raises:
            UserError: The place cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(exist_ok=False)
            _point(self.path.parent / "last", self.path)
        except OSError as error:
            raise UserError(
                f"the run folder {self.path} cannot be made: {error.strerror}. "
                "Set runs_dir to a folder you can write to."
            ) from None

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return current(self.checkpoints / "best")

    @property
    def last(self) -> Path:
        return current(self.checkpoints / "last")

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def reading(self) -> Path:
        """What the logits mean: classes, temperature, thresholds."""
        return self.path / "reading.json"

    def write_json(self, name: str, content: Mapping[str, Any] | Sequence[Any]) -> None:
        """Writes a file so that a reader sees the old one or the new one, never a part."""
        write_whole(self.path / name, json.dumps(content, indent=2) + "\n")

    def checkpoint(self, which: str) -> Path:
        """The folder of ``best`` or ``last``.

        Raises:
            UserError: The run has not come so far.
        """
        path = current(self.checkpoints / which)
        if not path.is_dir():
            raise UserError(f"the run {self.path} has no checkpoint {which!r} yet: its first epoch never ended.")
        return path


def write_whole(path: Path, text: str) -> None:
    """Writes a text file beside its place and moves it there.

    Raises:
        NotWritten: What was there before is still there.
    """
    fresh = path.with_name(f".{path.name}.new")
    content = text.encode()
    with writing(path, len(content)):
        try:
            fresh.write_bytes(content)
            fresh.replace(path)
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise


def _point(link: Path, target: Path) -> None:
    """Makes ``link`` point to ``target``, replacing an older link in one move."""
    fresh = link.with_name(f".last.{os.getpid()}.{secrets.token_hex(2)}")
    fresh.symlink_to(target.name, target_is_directory=True)
    fresh.replace(link)
