"""launcher=...: the same sweep in this process, in joblib's, as submitit would give it to SLURM, on a Ray cluster."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from ft.command.mistakes import LAUNCHERS, explain
from ft.command.verb import CONF
from tests.conftest import TINY
from tests.test_command_line import ft

HERE = sorted(file.stem for file in (CONF / "launcher").glob("*.yaml"))
# Our name -> the package that Hydra finds the launcher in, and Hydra's name for it
PLUGINS = {
    "local": ("hydra", "basic"),
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "slurm": ("hydra_plugins.hydra_submitit_launcher", "submitit_slurm"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "submitit_local"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}


def needs(launcher: str) -> None:
    """Skips without the launcher's extra."""
    package = PLUGINS[launcher][0]
    parent = package.partition(".")[0]
    if importlib.util.find_spec(parent) is None or importlib.util.find_spec(package) is None:
        pytest.skip(f"launcher={launcher} needs {package}, which is not installed")


def whole_config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def test_every_launcher_is_known_with_what_it_needs():
    assert set(HERE) == set(PLUGINS)
    for name in set(HERE) - {"local"}:
        (chosen,) = yaml.safe_load((CONF / "launcher" / f"{name}.yaml").read_text())["defaults"]
        assert chosen == {"override /hydra/launcher": PLUGINS[name][1]}
        assert PLUGINS[name][1] in LAUNCHERS


@pytest.mark.parametrize(("theirs", "ours"), LAUNCHERS.items())
def test_a_missing_extra_is_named(theirs, ours):
    told = explain(MissingConfigException("no match", f"hydra/launcher/{theirs}", []), CONF, "train")
    assert told.startswith(f"launcher={ours} needs the extra {ours}: pip install ")
    assert f"'.[{ours}]'" in told
    assert len(told.splitlines()) <= 3


def test_joblib_starts_as_many_workers_as_trials_run_at_a_time():
    needs("joblib")
    config = whole_config("launcher=joblib", "sweep.parallel=3")
    assert config.hydra.launcher.n_jobs == 3
    assert whole_config("launcher=joblib").hydra.launcher.n_jobs == 2


def test_slurm_gets_what_the_user_says_and_what_lets_jobs_go_on():
    needs("slurm")
    words = ("launcher.partition=gpu", "launcher.gpus_per_node=2", "launcher.nodes=2", "hydra.launcher.qos=high")
    launcher = whole_config("launcher=slurm", "sweep.parallel=40", *words).hydra.launcher
    assert (launcher.partition, launcher.gpus_per_node, launcher.nodes, launcher.qos) == ("gpu", 2, 2, "high")
    assert launcher.array_parallelism == 40
    assert launcher.max_num_timeout > 0  # a run that is queued again goes on from its checkpoint


def test_ray_gets_an_address_and_each_trial_its_share():
    needs("ray")
    ray = whole_config("launcher=ray", "launcher.address=auto", "launcher.num_gpus=0.5").hydra.launcher.ray
    assert (ray.init.address, ray.remote.num_cpus, ray.remote.num_gpus) == ("auto", 1, 0.5)


def sweep(folder: Path, *words: str) -> list[dict]:
    """Both runs of a grid, as ``trials.json`` has them."""
    options = [*TINY, f"runs_dir='{folder}'", "sweep.report=false", "seed=0,1"]
    # Of Ray: no reports of its use, and no address of a cluster that is none of ours.
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "", "RAY_DEDUP_LOGS": "0"}
    result = ft("-m", *options, *words, **quiet)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return json.loads((folder / "sweeps" / "last" / "trials.json").read_text())


@pytest.mark.full
def test_wherever_two_runs_are_they_come_to_the_same(tmp_path):
    expected = sweep(tmp_path / "local")
    assert [trial["state"] for trial in expected] == ["finished"] * 2
    assert expected[0]["metrics"]["val/loss"] != expected[1]["metrics"]["val/loss"]
    for launcher in ("joblib", "submitit_local"):
        needs(launcher)
        trials = sweep(tmp_path / launcher, f"launcher={launcher}")
        assert_same(expected, trials)
        output = list((tmp_path / launcher / "sweeps" / "last" / "jobs").glob("*/output.txt"))
        assert len(output) == 2
        assert all("epoch 2/2" in file.read_text() for file in output)


@pytest.mark.full
def test_two_isolated_runs_of_two_processes_each_come_to_the_same(tmp_path):
    one = sweep(tmp_path / "one", "trainer=cpu", "sweep.isolate=true", "optimizer=sgd")
    two = sweep(tmp_path / "two", "trainer=fsdp", "trainer.accelerator=cpu", "data.batch_size=4", "optimizer=sgd")
    assert [trial["state"] for trial in (*one, *two)] == ["finished"] * 4
    for alone, divided in zip(one, two, strict=True):
        # Batches of each process have statistics of their own.
        assert divided["metrics"]["val/loss"] == pytest.approx(alone["metrics"]["val/loss"], abs=0.1)


@pytest.mark.full
def test_two_runs_on_a_ray_cluster_of_this_machine(tmp_path):
    needs("ray")
    assert_same(sweep(tmp_path / "local"), sweep(tmp_path / "ray", "launcher=ray", "sweep.parallel=2"))


def assert_same(one: list[dict], other: list[dict]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        assert theirs["state"] == "finished"
        assert theirs["params"] == mine["params"]
        assert theirs["metrics"]["val/loss"] == pytest.approx(mine["metrics"]["val/loss"], abs=1e-6)
        assert theirs["jobs"][0]["key"] == mine["jobs"][0]["key"]


@pytest.mark.full
def test_a_mistake_in_a_worker_comes_back_in_the_users_words(tmp_path):
    needs("joblib")
    options = [*TINY, f"runs_dir='{tmp_path}'", "sweep.report=false", "launcher=joblib"]
    result = ft("-m", *options, "model.num_classes=7,4", OMP_NUM_THREADS=os.environ["OMP_NUM_THREADS"])
    assert result.returncode == 3, result.stderr
    trials = json.loads((tmp_path / "sweeps" / "last" / "trials.json").read_text())
    by_number = {trial["params"]["model.num_classes"]: trial["jobs"][0] for trial in trials}
    assert by_number[4]["status"] == "finished"
    assert by_number[7]["why"] == "mistake"
    assert "model.num_classes=7, but the data has 4" in by_number[7]["message"]
