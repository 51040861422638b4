"""SIGTERM as the shell, torchrun and SLURM send it: to several processes, and to sweeps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, assert_equal_weights
from tests.killable import Commands, commands
from tests.test_command_line import ROOT, ft
from tests.test_processes import only_run, state_of
from tests.test_slurm import job_of

pytestmark = pytest.mark.full
TWO = (*TINY, "trainer.max_epochs=12", "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=4",
       "trainer.max_epochs=12", "model.head.drop_rate=0.3", "test=false", "report=false",
       "trainer.autotune=false")  # fmt: skip


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        start_new_session=True,
    )


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 150
    while not list(folder.glob("2*/checkpoints/last/manifest.json")):
        assert time.monotonic() < deadline, "no checkpoint was ever written"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def in_session(leader: int) -> list[int]:
    """Processes of a session, by their own word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def test_sigterm_to_the_first_of_two_processes_that_lightning_has_started_ends_both(tmp_path):
    process = start("-m", "ft.train", *TWO, f"runs_dir={tmp_path}")
    wait_for_checkpoint(tmp_path, process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert in_session(process.pid) == []
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["status"] == "interrupted"


def test_torchrun_passes_sigterm_on_and_the_run_is_saved(tmp_path):
    """Sent to all of them: the two that train get it twice."""
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
    process = start(*torchrun, "-m", "ft.train", *TWO, f"runs_dir={tmp_path}")
    wait_for_checkpoint(tmp_path, process)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert in_session(process.pid) == []
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["status"] == "interrupted"


@pytest.fixture(scope="module")
def shell() -> Iterator[Commands]:
    with commands() as found:
        yield found


@pytest.fixture(scope="module")
def left_alone(shell, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights of a run of two processes that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    ended = shell.train([*TWO, f"runs_dir={folder}"], folder / "said.txt", environments=elastic())
    assert ended.codes == [0, 0], (folder / "said.txt").read_text()
    return state_of(only_run(folder))


def elastic() -> list[dict[str, str]]:
    """What torchrun sets for two processes."""
    shared = {key: value for key, value in job_of(tasks=2).items() if key.startswith("MASTER")}
    return [
        {**shared, "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
         "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("to", [None, 0, 1], ids=["both", "the first", "the second"])
def test_two_processes_stop_together_and_go_on_to_the_weights_of_a_run_left_alone(shell, left_alone, tmp_path, to):
    words, said = [*TWO, "autoresume=true", f"runs_dir={tmp_path}"], tmp_path / "said.txt"
    ended = shell.train(words, said, once=f"{tmp_path}/2*/checkpoints/last/manifest.json", after=0.1,
                        number=signal.SIGTERM, environments=elastic(), to=to)  # fmt: skip
    assert ended.codes == [143, 143], said.read_text()
    assert ended.seconds < 10
    assert "Traceback" not in said.read_text()
    cut = only_run(tmp_path)
    summary = json.loads((cut / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["epochs"] < 12
    assert shell.train(words, said, environments=elastic()).codes == [0, 0], said.read_text()
    assert only_run(tmp_path) == cut
    assert_equal_weights(state_of(cut), left_alone)


def test_two_processes_that_are_killed_go_on_to_the_weights_of_a_run_left_alone(shell, left_alone, tmp_path):
    words, said = [*TWO, "autoresume=true", f"runs_dir={tmp_path}"], tmp_path / "said.txt"
    once = f"{tmp_path}/2*/checkpoints/last/manifest.json"
    ended = shell.train(words, said, once=once, after=0.1, environments=elastic())
    assert ended.codes == [-9, -9]
    assert shell.train(words, said, environments=elastic()).codes == [0, 0], said.read_text()
    assert_equal_weights(state_of(only_run(tmp_path)), left_alone)


def test_a_slurm_job_that_is_requeued_goes_on_in_the_same_run_folder(shell, left_alone, tmp_path):
    asked = tmp_path / "asked.txt"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    path = f"{scontrol.parent}:{os.environ['PATH']}"

    def tasks(**more: str) -> list[dict[str, str]]:
        job = {**job_of(tasks=2), "PATH": path, **more}
        return [{**job, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)} for task in range(2)]

    runs = tmp_path / "runs"
    words, said = [*TWO, f"runs_dir={runs}"], tmp_path / "said.txt"
    ended = shell.train(words, said, once=f"{runs}/2*/checkpoints/last/manifest.json", after=0.1,
                        number=signal.SIGUSR1, environments=tasks())  # fmt: skip
    assert ended.codes == [143, 143], said.read_text()
    assert asked.read_text() == "requeue 4242\n"
    cut = only_run(runs)
    assert shell.train(words, said, environments=tasks(SLURM_RESTART_COUNT="1")).codes == [0, 0], said.read_text()
    assert only_run(runs) == cut
    assert_equal_weights(state_of(cut), left_alone)


@pytest.mark.parametrize("isolate", [False, True])
def test_sigterm_ends_a_sweep_with_143_and_the_same_command_goes_on(tmp_path, isolate):
    tiny = [word for word in TINY if not word.startswith(("trainer.max_epochs", "report"))]
    words = ["-m", *tiny, "trainer.max_epochs=25", "optimizer=adam,sgd", "sweep.report=false", "test=false",
             "sweep.name=mine", f"sweep.isolate={isolate}", f"runs_dir={tmp_path}"]  # fmt: skip
    process = start("-m", "ft.train", *words)
    deadline = time.monotonic() + 150
    while not list(tmp_path.glob("sweeps/mine/runs/*/checkpoints/last/manifest.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 143, errors
    assert not list(tmp_path.glob("sweeps/mine/jobs/*/result.json"))
    result = ft(*words)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "sweeps/mine/trials.json").read_text())
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert len(list(tmp_path.glob("sweeps/mine/runs/0*/config.yaml"))) == 2
    # The first run was gone on with, and not begun anew.
    printed = [file.read_text() for file in tmp_path.glob("sweeps/mine/jobs/*/output.txt")]
    epochs = [sum(bool(re.match(r"epoch ", line)) for line in text.splitlines()) for text in printed]
    assert 50 <= sum(epochs) <= 52
