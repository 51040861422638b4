"""The average of runs: kept where validation says so, a run like any other, and never worse than its best member."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ft.build.run import build
from ft.build.trained import load_predictor
from ft.checkpoint.greedy import mean_weights
from ft.checkpoint.load import load
from ft.checkpoint.save import save
from ft.errors import UserError
from ft.fit import fit
from ft.inference.predictions import Predictions
from ft.job_folder import Job, JobFolder, Result
from ft.jobs.soup import make_soup
from ft.run_folder import RunFolder
from tests.conftest import TINY, assert_equal_weights, composed

LEARNS = ("data.num_images=96", "trainer.max_epochs=4", "optimizer.lr=0.003")
HEAD = "model.head.fc.weight"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that has learned something."""
    folder = tmp_path_factory.mktemp("trained")
    with composed(*TINY, *LEARNS, f"runs_dir={folder}") as config:
        run = build(config)
    fit(run, started=0.0)
    return run.folder


@pytest.fixture
def members(trained: RunFolder, tmp_path: Path) -> list[RunFolder]:
    """Two whose heads are wrong in opposite ways, so that their mean is right, and one that is plainly wrong."""
    weights = best_weights(trained)
    wrong = 30 * torch.randn(weights[HEAD].shape, generator=torch.Generator().manual_seed(0)) * weights[HEAD].std()
    heads = {"a": weights[HEAD] + wrong, "b": weights[HEAD] - wrong, "c": -100 * weights[HEAD]}
    return [member(trained, tmp_path / name, {**weights, HEAD: head}) for name, head in heads.items()]


def member(trained: RunFolder, path: Path, weights: dict[str, torch.Tensor]) -> RunFolder:
    """A run folder with other best weights."""
    shutil.copytree(trained.path, path)
    folder = RunFolder(path)
    save({**load(folder.best), "state_dict": weights}, folder.best)
    return folder


def soup_of(folders: list[RunFolder], tmp_path: Path, *overrides: str) -> tuple[RunFolder, Result]:
    """Runs the job."""
    job = JobFolder(tmp_path / "jobs" / "soup")
    place = RunFolder(tmp_path / "sweep" / "soup")
    settings = {"members": [str(folder.path) for folder in folders]}
    job.ask(Job("soup", "soup", run=str(place.path), settings=settings), "")
    with composed(*TINY, *LEARNS, f"runs_dir={tmp_path}", *overrides) as config:
        make_soup(job, config, started=0.0)
    result = job.result()
    assert result is not None
    return place, result


def best_weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load(folder.best)["state_dict"]


def summary_of(folder: RunFolder) -> dict[str, float]:
    return json.loads(folder.summary.read_text(encoding="utf-8"))


def test_the_soup_is_the_mean_of_those_that_help_and_of_no_other(trained, members, tmp_path):
    place, result = soup_of(members, tmp_path)
    a, b, _ = (best_weights(folder) for folder in members)
    assert_equal_weights(best_weights(place), mean_weights([a, b]))
    told = json.loads((place.path / "soup.json").read_text())
    assert [member["kept"] for member in told["members"]] == [True, True, False]
    alone, both, all_three = (tried["val/acc"] for tried in told["tried"])
    assert alone < both > all_three
    # Their mean is what was trained, and is measured as it was in training.
    assert result.value == both == pytest.approx(summary_of(trained)["val/acc"])
    assert result.metrics["val/loss"] == pytest.approx(summary_of(trained)["val/loss"], rel=1e-3)
    assert result.metrics["test/acc"] == pytest.approx(summary_of(trained)["test/acc"])
    assert result.metrics["members_kept"] == 2
    assert result.message == f"soup of 2 of 3 runs: val/acc {both:.4f} (best member {alone:.4f})"


def test_the_soup_is_a_run_like_any_other(trained, members, tmp_path):
    place, result = soup_of(members, tmp_path)
    assert {path.name for path in place.path.iterdir()} >= {path.name for path in trained.path.iterdir()} - {
        "metrics.csv"
    }
    assert summary_of(place)["status"] == "finished"
    assert summary_of(place).keys() - {"train/loss"} == summary_of(trained).keys() - {"train/loss"}
    predictions = Predictions.load(place.path, "val")
    right = (predictions.logits.argmax(1) == predictions.targets).float().mean()
    assert float(right) == pytest.approx(result.value)
    assert not list(place.path.parent.glob(".*"))
    predictor = load_predictor(place)
    assert_equal_weights(
        {f"model.{name}": value for name, value in predictor.model.state_dict().items()}, best_weights(place)
    )


def test_no_average_helps_and_the_soup_is_the_best_member(trained, members, tmp_path):
    place, result = soup_of([trained, members[2]], tmp_path)
    assert_equal_weights(best_weights(place), best_weights(trained))
    assert result.message == f"no average is as good as the best of 2 runs: val/acc {result.value:.4f}"
    assert result.value == pytest.approx(summary_of(trained)["val/acc"])


def test_runs_that_cannot_be_averaged_are_left_out_and_named(trained, members, tmp_path):
    wider = member(trained, tmp_path / "wider", {**best_weights(trained), HEAD: torch.zeros(4, 99)})
    others = member(trained, tmp_path / "others", best_weights(trained))
    others.path.joinpath("classes.json").write_text('{"classes": ["x"]}')
    empty = RunFolder(tmp_path / "empty")
    empty.path.mkdir()
    place, result = soup_of([trained, wider, others, empty], tmp_path)
    first, second = result.message.splitlines()
    assert first.startswith("there is one run that can be averaged: val/acc ")
    assert second.startswith("left out: wider has other weights; others has other classes; empty has no best weights")
    assert_equal_weights(best_weights(place), best_weights(trained))


def test_without_a_best_member_nothing_is_made(tmp_path):
    empty = RunFolder(tmp_path / "empty")
    empty.path.mkdir()
    with pytest.raises(UserError, match="has no checkpoint 'best' yet"):
        soup_of([empty], tmp_path)
    assert not (tmp_path / "sweep").exists()


def test_what_a_killed_attempt_has_left_is_replaced(trained, tmp_path):
    for left in ("soup", ".soup.new"):
        (tmp_path / "sweep" / left).mkdir(parents=True)
        (tmp_path / "sweep" / left / "rest").touch()
    place, _ = soup_of([trained], tmp_path, "test=false")
    assert not (place.path / "rest").exists()
    assert not (place.path / "predictions").exists(), "test=false"
    assert not (tmp_path / "sweep" / ".soup.new").exists()


def test_several_devices_of_the_best_member_are_one_here(trained, tmp_path):
    apart = member(trained, tmp_path / "apart", best_weights(trained))
    config = OmegaConf.load(apart.config)
    config.trainer.devices, config.trainer.strategy = 2, "ddp"
    OmegaConf.save(config, apart.config)
    place, _ = soup_of([apart], tmp_path, "test=false")
    assert OmegaConf.load(place.config).trainer.devices == 1
