"""What a sweep does for a method that is not made of trials: jobs of any kind, asked once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ft.job_folder import Job, JobFolder, Result
from ft.sweeps.compose import Composer, key_of
from ft.sweeps.folder import SweepFolder
from ft.sweeps.launch import Launch
from ft.sweeps.request import Request

Rows = list[dict[str, Any]]


class JobDriver:
    """Follows ``ft.sweeps.backbone_looks.Driver``.

    Args:
        request: What is asked.
        folder: Of the sweep.
        composer: Composes the configs of jobs.
        launch: Runs jobs.
        show: Told of all rows after every change.
    """

    def __init__(
        self,
        request: Request,
        folder: SweepFolder,
        composer: Composer,
        launch: Launch,
        show: Callable[[Rows], None],
    ) -> None:
        self.request = request
        self.folder = folder
        self.composer = composer
        self.launch = launch
        self.show = show

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.request.settings

    @property
    def path(self) -> Path:
        return self.folder.path

    def compose(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        return self.composer.plain([*self.request.fixed, *overrides])

    def ask(self, kind: str, overrides: Sequence[str], settings: Mapping[str, Any], run: str = "") -> JobFolder:
        """Makes the folder of a job; the same question is the same folder.

        Args:
            kind: As in ``ft.job_folder``.
            overrides: Besides those of every run.
            settings: What else the job is told.
            run: Its run folder, relative to the sweep's; empty where it has none.
        """
        words = (*self.request.fixed, *overrides)
        config = self.composer.plain(words)
        told = {"kind": kind, **settings}
        folder = self.folder.job(key_of(config, told))
        if folder.result() is None:
            place = str(self.path / run) if run else ""
            job = Job(kind, folder.path.name, run=place, overrides=words, settings=settings)
            folder.ask(job, yaml.safe_dump(config, sort_keys=False))
        return folder

    def run(self, folders: Sequence[JobFolder]) -> list[Result]:
        self.launch(folders)
        return [result for folder in folders if (result := folder.result()) is not None]

    def rows(self, rows: Rows) -> None:
        self.folder.write_rows(rows)
        self.show(rows)
