"""Thousands of short epochs: no memory, no process and no file handle is left behind by any of them."""

import gc
import os
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from ft.fit import fit

SHORT = ("data.num_images=16", "data.batch_size=8", "test=false", "model.head.drop_rate=0.3", "schedule=cosine")


class Watch(Callback):
    """What the process holds at the end of each epoch.

    Attributes:
        rows: Resident bytes, open files, and processes that it has started.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.rows.append((resident(), handles(), len(children())))


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> list[int]:
    """Processes of all threads of this one."""
    return [int(each) for path in Path("/proc/self/task").glob("*/children") for each in path.read_text().split()]


def watched(build_run, *words) -> list[tuple[int, int, int]]:
    watch = Watch()  # Lightning lets it hold the whole run
    run = build_run(*SHORT, *words)
    run.trainer.callbacks.append(watch)
    fit(run, started=0.0)
    return watch.rows


pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="asks Linux")


@pytest.mark.full
@pytest.mark.parametrize("workers", [0, 2])
def test_sixty_epochs_leave_no_process_and_no_open_file(build_run, workers):
    options = (f"data.num_workers={workers}", "data.decoded=off")
    watched(build_run, *options, "trainer.max_epochs=1")  # what is opened once
    gc.collect()
    before = handles(), set(children())
    rows = watched(build_run, *options, "trainer.max_epochs=60")
    assert len(rows) == 60
    assert len({row[1:] for row in rows[2:]}) == 1, rows
    # One set of them for training, one for validation, beside what earlier tests left (a resource tracker).
    assert rows[-1][2] == len(before[1]) + 2 * workers
    gc.collect()
    assert handles() <= before[0]
    assert set(children()) <= before[1]


@pytest.mark.soak
def test_two_thousand_epochs_take_no_more_memory_than_two_hundred(build_run):
    """FT_SOAK_EPOCHS=500 for fewer; a tenth of them is warm-up."""
    epochs = int(os.environ.get("FT_SOAK_EPOCHS", "2000"))
    rows = watched(build_run, f"trainer.max_epochs={epochs}")
    # The median of a stretch: what the allocator holds moves up and down.
    stretch = epochs // 10
    early, late = (
        sorted(row[0] for row in part)[stretch // 2] for part in (rows[stretch : 2 * stretch], rows[-stretch:])
    )
    growth = late / early - 1
    print(f"{epochs} epochs: {early / 2**20:.1f} MiB, then {late / 2**20:.1f} MiB ({growth:+.2%})")
    assert growth < 0.02
    assert len({row[1:] for row in rows[stretch:]}) == 1
