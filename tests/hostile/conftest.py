"""One tiny finished run for the whole folder, on images in memory, with everything that a report reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ft.build.run import build
from ft.fit import fit
from ft.run_folder import RunFolder
from tests.conftest import TINY, composed


@pytest.fixture(scope="session")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Not to be changed: tests copy it."""
    runs = tmp_path_factory.mktemp("hostile")
    with composed(*TINY, "trainer.max_epochs=1", "data.num_images=16", f"runs_dir='{runs}'") as config:
        run = build(config)
    fit(run, started=0.0)
    return run.folder


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that a payload makes when it runs; nothing may."""
    file = tmp_path / "ran"
    yield file
    assert not file.exists(), "a payload ran"
