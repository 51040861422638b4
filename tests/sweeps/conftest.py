"""A sweep as the command line starts it, in this process."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from ft.command.verb import run_verb
from ft.train import train
from tests.conftest import TINY

# A sweep has tens of runs: one epoch each.
TINIEST = (*(word for word in TINY if not word.startswith(("trainer.max_epochs", "report="))), "trainer.max_epochs=1")


@dataclass
class Swept:
    """What a sweep has left.

    Attributes:
        code: Of the process; 0 where it ended well.
        path: Of its folder.
        out: What it printed.
        err: What it printed about mistakes.
    """

    code: int
    path: Path
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return json.loads((self.path / "trials.json").read_text(encoding="utf-8"))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Swept]:
    """``python -m ft.train -m`` with tiny runs."""

    def run(*words: str, tiny: bool = True) -> Swept:
        given = [*(TINIEST if tiny else ()), f"runs_dir={tmp_path}/runs", *words]
        if not any(word.startswith("sweep.report") for word in words):
            given.append("sweep.report=false")
        monkeypatch.setattr(sys, "argv", ["ft.train", "-m", *given])
        code = 0
        capsys.readouterr()
        try:
            run_verb(train, "train")
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            GlobalHydra.instance().clear()
        printed = capsys.readouterr()
        return Swept(code, tmp_path / "runs" / "sweeps" / "last", printed.out, printed.err)

    return run
