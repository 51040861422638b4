"""What a sweep does for a method that is not made of trials: jobs of any kind, asked once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ft.job_folder import Job, JobFolder, Result, key_of
from ft.sweeps.work import Rows, Work


class JobDriver:
    """Follows ``ft.sweeps.backbones.looks.Driver``.

    Args:
        work: Of the sweep.
    """

    def __init__(self, work: Work) -> None:
        self.work = work

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.work.request.settings

    @property
    def path(self) -> Path:
        return self.work.folder.path

    def compose(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        return self.work.composer.plain([*self.work.request.fixed, *overrides])

    def ask(self, kind: str, overrides: Sequence[str], settings: Mapping[str, Any], run: str = "") -> JobFolder:
        """Makes the folder of a job; the same question is the same folder.

        Args:
            kind: As in ``ft.job_folder``.
            overrides: Besides those of every run.
            settings: What else the job is told.
            run: Its run folder, relative to the sweep's; empty where it has none.
        """
        words = (*self.work.request.fixed, *overrides)
        config = self.work.composer.plain(words)
        told = {"kind": kind, **settings}
        folder = self.work.folder.job(key_of(config, told))
        if folder.result() is None:
            place = str(self.path / run) if run else ""
            job = Job(kind, folder.path.name, run=place, overrides=words, settings=settings)
            folder.ask(job, yaml.safe_dump(config, sort_keys=False))
        return folder

    def run(self, folders: Sequence[JobFolder]) -> list[Result]:
        self.work.launch(folders)
        return [result for folder in folders if (result := folder.result()) is not None]

    def rows(self, rows: Rows) -> None:
        self.work.tell(rows)
