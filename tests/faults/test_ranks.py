"""Two processes train one run, and one of them dies."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ft.faults.processes import Watch
from tests.conftest import TINY
from tests.test_command_line import ROOT

OPTIONS = [*TINY, "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=4"]
BAR = 30.0  # seconds
MARKS: dict[int, str] = {}  # process number of a command -> what its processes can be known by

# The same command, but for a fault in one of its ranks.
RAISES = """
import os, sys
from ft.module import FineTuner
step = FineTuner.training_step
def faulty(self, batch, batch_idx):
    if self.current_epoch == 1 and self.global_rank == {rank}:
        raise RuntimeError("the plug of rank {rank} was pulled")
    return step(self, batch, batch_idx)
FineTuner.training_step = faulty
from ft.command.verb import run_verb
from ft.train import train
run_verb(train, "train")
"""

READS_NOTHING = """
from ft.module import FineTuner
step = FineTuner.training_step
def nothing_read(self, batch, batch_idx):
    if self.current_epoch == 1 and batch_idx == 1 and self.global_rank == 1:
        batch = batch._replace(images=batch.images[:0], targets=batch.targets[:0], index=batch.index[:0])
    return step(self, batch, batch_idx)
FineTuner.training_step = nothing_read
from ft.command.verb import run_verb
from ft.train import train
run_verb(train, "train")
"""


def members(starter: int) -> list[int]:
    """All processes of a command that are not zombies, in whatever session: they have inherited a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                marked = f"FT_TEST_COMMAND={MARKS[starter]}\0".encode() in (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if marked and state != "Z":
                found.append(int(entry.name))
    return found


def start(folder: Path, *command: str, epochs: int = 2000) -> subprocess.Popen[str]:
    mark = secrets.token_hex(8)
    process = subprocess.Popen(
        [*command, *OPTIONS, f"trainer.max_epochs={epochs}", f"runs_dir={folder}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "FT_TEST_COMMAND": mark},
    )
    MARKS[process.pid] = mark
    return process


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 150
    while not list(folder.glob("2*/checkpoints/last/manifest.json")):
        assert time.monotonic() < deadline, "no checkpoint was ever written"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def is_rank(pid: int, rank: int) -> bool:
    try:
        return f"LOCAL_RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def all_gone(process: subprocess.Popen[str], began: float) -> str:
    """What was said; fails where a process is left over after the bar."""
    try:
        _, errors = process.communicate(timeout=BAR)
        while members(process.pid) and time.monotonic() - began < BAR:
            time.sleep(0.05)
        assert not members(process.pid), "orphans"
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
    print(f"all gone after {time.monotonic() - began:.1f} s")
    return errors


def kill_a_rank(folder: Path, rank: int) -> str:
    process = start(folder, sys.executable, "-m", "ft.train")
    wait_for_checkpoint(folder, process)
    child = next(pid for pid in members(process.pid) if is_rank(pid, 1))
    began = time.monotonic()
    os.kill(child if rank else process.pid, signal.SIGKILL)
    errors = all_gone(process, began)
    assert process.returncode != 0
    return errors


@pytest.mark.full
def test_a_rank_that_is_killed_ends_the_others_and_its_signal_is_told(tmp_path: Path):
    errors = kill_a_rank(tmp_path, 1)
    assert "process 1 of 2 was killed by SIGKILL" in errors
    assert "resume=RUN" in errors


@pytest.mark.full
def test_the_first_rank_is_killed_and_no_orphan_is_left(tmp_path: Path):
    kill_a_rank(tmp_path, 0)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.soak), pytest.param(1, marks=pytest.mark.full)])
def test_a_rank_that_raises_ends_the_others_and_its_traceback_is_shown(tmp_path: Path, rank: int):
    script = tmp_path / "train.py"
    script.write_text(RAISES.format(rank=rank), encoding="utf-8")
    process = start(tmp_path, sys.executable, str(script))
    wait_for_checkpoint(tmp_path, process)
    errors = all_gone(process, time.monotonic())
    assert process.returncode != 0
    assert f"RuntimeError: the plug of rank {rank} was pulled" in errors
    assert "Traceback" in errors


@pytest.mark.full
def test_a_rank_that_can_read_nothing_of_its_batch_does_not_keep_the_other_waiting(tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(READS_NOTHING, encoding="utf-8")
    process = start(tmp_path, sys.executable, str(script), epochs=3)
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    (summary,) = [path for path in tmp_path.glob("*/summary.json") if not path.parent.is_symlink()]
    told = json.loads(summary.read_text(encoding="utf-8"))
    assert told["status"] == "finished"
    rows = (summary.parent / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 3
    assert "nan" not in rows[-1]


@pytest.mark.parametrize(
    "victim", [pytest.param("a rank", marks=pytest.mark.full), pytest.param("torchrun", marks=pytest.mark.soak)]
)
def test_under_torchrun(tmp_path: Path, victim: str):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29537"]
    process = start(tmp_path, *command, "-m", "ft.train")
    wait_for_checkpoint(tmp_path, process)
    rank = next(pid for pid in members(process.pid) if is_rank(pid, 1))
    began = time.monotonic()
    os.kill(process.pid if victim == "torchrun" else rank, signal.SIGKILL)
    errors = all_gone(process, began)
    assert process.returncode != 0
    if victim == "a rank":
        assert "SIGKILL" in errors


@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(10))
def test_a_rank_that_is_killed_ten_times(tmp_path: Path, attempt: int):
    kill_a_rank(tmp_path, attempt % 2)


def test_the_watch_tells_the_signal_and_ends_all(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr("ft.faults.processes.LOOK_EVERY", 0.01)
    monkeypatch.setattr("ft.faults.processes.GRACE", 0.0)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    sleepers[1].kill()
    sleepers[1].wait()
    Watch(sleepers).run()
    assert [sleeper.wait(5) for sleeper in sleepers] == [-9, -9]
    assert ended == [1]
    assert "process 2 of 3 was killed by SIGKILL" in capfd.readouterr().err
