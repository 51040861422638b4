"""A sweep's driver without a sweep: composes, makes job folders, and does the jobs in this process."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ft.job_folder import FAILED, Job, JobFolder, Result, key_of
from tests.conftest import composed


class HereDriver:
    """Follows ``ft.sweeps.backbones.sweep.Driver``.

    Args:
        path: The sweep's folder.
        fixed: Overrides of every job.

    Attributes:
        done: Overrides and settings of the jobs that were really done, in order.
        told: What ``rows`` was called with, call by call.
    """

    def __init__(self, path: Path, *fixed: str) -> None:
        self.path = path
        self.fixed = fixed
        self.done: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self.told: list[list[dict[str, Any]]] = []
        self.settings: Mapping[str, Any] = self.compose([])["sweep"]

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        with composed("sweep=backbones", *self.fixed, *overrides) as config:
            content: Any = OmegaConf.to_container(config, resolve=True)
            return content

    def ask(self, kind: str, overrides: Sequence[str], settings: Mapping[str, Any]) -> JobFolder:
        key = key_of(self.compose(overrides), settings)
        folder = JobFolder(self.path / "jobs" / key)
        folder.ask(Job(kind, key, overrides=tuple(overrides), settings=settings), "")
        return folder

    def run(self, folders: Sequence[JobFolder]) -> list[Result]:
        for folder in folders:
            if folder.result() is None:
                self._do(folder)
        return [result for folder in folders if (result := folder.result()) is not None]

    def _do(self, folder: JobFolder) -> None:
        from ft.jobs.backbone import score_backbone

        job = folder.job()
        self.done.append((job.overrides, dict(job.settings)))
        try:
            with composed("sweep=backbones", *self.fixed, *job.overrides) as config:
                score_backbone(folder, config, started=time.monotonic())
        except ValueError as error:
            folder.answer(Result(FAILED, why="mistake", message=str(error)))

    def rows(self, rows: list[dict[str, Any]]) -> None:
        self.told.append(json.loads(json.dumps(rows)))
