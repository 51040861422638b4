"""trainer=ddp in the tasks of a SLURM job: srun has started the processes and says in variables which is which."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from tests.conftest import TINY
from tests.test_command_line import ROOT, ft
from tests.test_processes import only_run, state_of


def job_of(*, tasks: int) -> dict[str, str]:
    """The variables that ``srun`` sets, the same for all tasks of a job on one node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NAME": "ft",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "localhost",
        "SLURM_NODEID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def started_tasks(*words: str, job: dict[str, str], tasks: int) -> list[subprocess.Popen[str]]:
    """A command, started as often as there are tasks."""
    return [
        subprocess.Popen(
            [sys.executable, "-m", "ft.train", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **job, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(tasks)
    ]


def srun(*words: str, tasks: int) -> list[subprocess.CompletedProcess[str]]:
    """The same, to its end."""
    started = started_tasks(*words, job=job_of(tasks=tasks), tasks=tasks)
    ended = [process.communicate(timeout=300) for process in started]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *streams)
        for process, streams in zip(started, ended, strict=True)
    ]


@pytest.mark.full
def test_the_tasks_of_a_slurm_job_train_one_run(tmp_path):
    options = [*TINY, "optimizer=sgd", "model.name=test_vit", "model.img_size=32"]
    words = [*options, "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=4", f"runs_dir='{tmp_path}/two'"]
    first, second = srun(*words, tasks=2)
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    # One process speaks, and one writes.
    assert "epoch 2/2" in first.stdout
    assert "epoch" not in second.stdout
    two = only_run(tmp_path / "two")
    assert json.loads((two / "summary.json").read_text())["status"] == "finished"

    assert ft(*options, "data.batch_size=8", f"runs_dir='{tmp_path}/one'").returncode == 0
    for name, value in state_of(only_run(tmp_path / "one")).items():
        assert torch.allclose(value, state_of(two)[name], rtol=1e-4, atol=1e-5), name
