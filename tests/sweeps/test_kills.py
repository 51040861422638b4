"""A sweep that is killed again and again ends as the one that was left alone: every run once, the same values, to the
last bit."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from tests.conftest import TINY

ROOT = Path(__file__).parent.parent.parent
KILLS = 5
NUMBER = re.compile(r"(?<=best|last)\.\d+")

GRID = ("optimizer=adam,sgd", "optimizer.lr=0.002,0.001")
RANDOM = ("optimizer=adam,sgd", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "sweep.sampler=random", "sweep.trials=4")
PHASES = (
    "recipe=auto",
    "trainer.max_epochs=null",
    "recipe.min_epochs=1",
    "recipe.always=9",
    "recipe.phases=[{depth: 0.2, steps: 8, views: 1, rate: 1.0}, {depth: 0.5, steps: 8, views: 2, rate: 1.0}]",
    "recipe.phases.1.rate=0.5,1.0,2.0,4.0",
    "sweep.soup=greedy",
)


class Sweeps:
    """The process that starts them."""

    def __init__(self, process: "subprocess.Popen[str]", words: Sequence[str]) -> None:
        self.process = process
        self.words = [*words, "sweep.report=false", "sweep.name=mine"]

    def run(self, folder: Path, words: Sequence[str], *, kill_at: int | None = None) -> int:
        """The exit code of a sweep; of a killed one the signal's number, negative."""
        asked = {"words": [*self.words, *words], "folder": str(folder), "kill_at": kill_at}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        folder.mkdir(exist_ok=True)
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = {name: tensor.contiguous() for name, tensor in timm.create_model("test_resnet").state_dict().items()}
    save_file(state, folder / "test_resnet.safetensors")
    words = [*TINY, f"model.weights='{folder}/test_resnet.safetensors'"]
    command = [sys.executable, "-m", "tests.sweeps.killable"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield Sweeps(process, words)


def rows(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "runs/sweeps/mine/trials.json").read_text(encoding="utf-8"))


def results(folder: Path) -> dict[str, str]:
    """Of every job that has ended, what is written of it."""
    files = (folder / "runs/sweeps/mine/jobs").glob("*/result.json")
    return {file.parent.name: file.read_text(encoding="utf-8") for file in files}


def outcome(folder: Path) -> dict[str, Any]:
    """What has to be the same, whatever happened on the way; no times."""
    told: dict[str, Any] = {}
    for row in rows(folder):
        (job,) = row["jobs"]
        run = folder / "runs/sweeps/mine" / job["run"]
        told[job["run"]] = {
            **{key: row[key] for key in ("number", "params", "state", "value")},
            **{key: job[key] for key in ("status", "attempts", "value")},
            "curves": (run / "metrics.csv").read_text(encoding="utf-8"),
            "config": yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["optimizer"],
            "weights": [
                json.loads((run / "checkpoints" / name / "manifest.json").read_text())["files"]["weights.safetensors"]
                for name in ("best", "last")
            ],
            # The same checkpoint, written twice, has another number.
            "files": sorted({NUMBER.sub("", str(path.relative_to(run))) for path in run.rglob("*") if path.is_file()}),
        }
    folders = (folder / "runs/sweeps/mine/runs").glob("[!.]*")
    told["folders"] = sorted(path.name for path in folders)
    return told


def epochs_trained(folder: Path) -> int:
    """By all attempts: each prints a line at an epoch's end."""
    files = (folder / "runs/sweeps/mine/jobs").glob("*/output.txt")
    return sum(line.startswith("epoch ") for file in files for line in file.read_text(encoding="utf-8").splitlines())


@pytest.mark.full
@pytest.mark.parametrize("draw", range(2))
@pytest.mark.parametrize("words", [GRID, RANDOM, PHASES], ids=["grid", "random", "shared phases and a soup"])
def test_a_sweep_killed_five_times_ends_as_one_left_alone(sweeps, tmp_path, words, draw):
    calm, hurt = tmp_path / "calm", tmp_path / "hurt"
    assert sweeps.run(calm, words) == 0, (calm / "output.txt").read_text()
    changes = int((calm / "changes.txt").read_text())
    chance = random.Random(f"{words}{draw}")
    ended: dict[str, str] = {}
    for _ in range(KILLS):
        # All of them together do not come to the end.
        moment = chance.randint(1, changes // KILLS)
        assert sweeps.run(hurt, words, kill_at=moment) == -signal.SIGKILL
        ended |= results(hurt)
    assert sweeps.run(hurt, words) == 0, (hurt / "output.txt").read_text()
    assert outcome(hurt) == outcome(calm)
    assert len(outcome(calm)) > 4
    # Nothing that had ended was computed again, and a kill costs at most the epoch that it came in.
    assert {key: text for key, text in results(hurt).items() if key in ended} == ended
    assert epochs_trained(calm) <= epochs_trained(hurt) <= epochs_trained(calm) + KILLS
    best = [max(rows(folder), key=lambda row: row["value"])["number"] for folder in (calm, hurt)]
    assert best[0] == best[1]


@pytest.mark.parametrize("every", [pytest.param(4, marks=pytest.mark.full), pytest.param(1, marks=pytest.mark.soak)])
def test_a_sweep_killed_before_any_change_of_its_files_goes_on(sweeps, tmp_path, every):
    """Not at random: before each of them in turn, or before every fourth."""
    words = ("optimizer=adam,sgd", "sweep.trials=1", "trainer.max_epochs=1", "test=false")
    calm = tmp_path / "calm"
    assert sweeps.run(calm, words) == 0
    for moment in range(1, int((calm / "changes.txt").read_text()) + 1, every):
        hurt = tmp_path / f"hurt_{moment}"
        assert sweeps.run(hurt, words, kill_at=moment) == -signal.SIGKILL
        assert sweeps.run(hurt, words) == 0, (moment, (hurt / "output.txt").read_text())
        assert outcome(hurt) == outcome(calm), moment
        shutil.rmtree(hurt)
