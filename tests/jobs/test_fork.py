"""A run that begins where another one was is, from there on, what it would have been as a whole."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
from lightning.pytorch import Callback
from omegaconf import OmegaConf
from safetensors.torch import save_file

from ft.build.run import Run, build
from ft.fit import fit
from ft.jobs.fork import KeepPhases, begin_from, link_folder
from ft.run_folder import RunFolder
from tests.conftest import TINY, Killed, StopIn, assert_equal_weights, composed, weights_of

FIRST = "{depth: 0.2, steps: 8, views: 1, rate: 1.0}"
SECOND = "{depth: 0.5, steps: 8, views: 2, rate: 1.0}"
OTHER = "{depth: 0.75, steps: 12, views: 2, rate: 0.5}"
DEEP = "{depth: 1.0, steps: 4, views: 2, rate: 0.7}"
ALL = (
    "recipe=auto",
    "trainer.max_epochs=null",
    "recipe.min_epochs=1",
    "recipe.always=9",  # whatever happens, every phase is gone through
    "model.head.drop_rate=0.2",
    "task.mode=min",  # random weights unlearn what the solved head knows: so that `best` changes in every phase
)


def phases(*entries: str) -> str:
    return f"recipe.phases=[{','.join(entries)}]"


class Jobs:
    """Trains runs in folders of their own, as jobs of a sweep do.

    Attributes:
        folder: Where all of them are.
        spared: Seconds, by the run that began from another.
    """

    def __init__(self, folder: Path, weights: str) -> None:
        self.folder = folder
        self.words = (*TINY, *ALL, weights, f"runs_dir={folder}")
        self.spared: dict[str, float] = {}

    def __call__(
        self, name: str, *overrides: str, source: Run | None = None, phase: int = 1, callbacks: Sequence[Callback] = ()
    ) -> Run:
        place = RunFolder(self.folder / name)
        with composed(*self.words, *overrides) as config:
            if source is not None:
                self.spared[name] = begin_from(source.folder, phase, place, config)
            run = build(config, place=place, callbacks=callbacks)
        fit(run, started=0.0)
        return run

    def begin(self, source: RunFolder, phase: int, *overrides: str) -> RunFolder:
        """A folder that is only begun, if it can be."""
        place = RunFolder(self.folder / "begun")
        shutil.rmtree(place.path, ignore_errors=True)
        with composed(*self.words, *overrides) as config:
            self.spared["begun"] = begin_from(source, phase, place, config)
        return place


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    state = {name: tensor.contiguous() for name, tensor in timm.create_model("test_resnet").state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    return Jobs(folder, f"model.weights='{folder}/weights.safetensors'")


@pytest.fixture(scope="module")
def source(job: Jobs) -> Run:
    """Of three phases, of which two are kept."""
    return job("source", phases(FIRST, SECOND, DEEP), callbacks=(KeepPhases([1, 2]),))


def assert_same_run(one: Run, other: Run) -> None:
    """Last and best weights, every logged number, the config and the predictions' metrics."""
    assert_equal_weights(weights_of(one), weights_of(other))
    read = [(run.folder.path / "metrics.csv").read_text() for run in (one, other)]
    assert read[0] == read[1]
    assert OmegaConf.load(one.folder.config) == OmegaConf.load(other.folder.config)
    told = [json.loads(run.folder.summary.read_text()) for run in (one, other)]
    for timing in ("seconds", "images_per_second"):
        for summary in told:
            del summary[timing]
    assert told[0] == told[1]


def test_a_forked_run_equals_the_whole_one_bit_for_bit(job, source):
    whole = job("whole", phases(FIRST, OTHER))
    forked = job("forked", phases(FIRST, OTHER), source=source, phase=1)
    assert forked.resumed
    assert_same_run(whole, forked)
    assert whole.checkpoints.best_epoch > 1, "the best is of a phase that was not shared"
    begun = json.loads((forked.folder.path / "begun_from.json").read_text())
    assert begun == {"run": str(source.folder.path), "phases": 1, "epochs": 2, "seconds": job.spared["forked"]}
    assert begun["seconds"] > 0


def test_a_longer_run_goes_on_where_a_shorter_one_has_ended(job, source):
    short = job("short", phases(FIRST, SECOND), callbacks=(KeepPhases([2]),))
    longer = job("longer", phases(FIRST, SECOND, DEEP), source=short, phase=2)
    assert longer.resumed
    assert_same_run(source, longer)


def test_a_chain_of_forks_adds_up_what_is_spared(job, source):
    middle = job("middle", phases(FIRST, OTHER, DEEP), source=source, phase=1, callbacks=(KeepPhases([2]),))
    third = job("third", phases(FIRST, OTHER), source=middle, phase=2)
    assert third.resumed
    assert job.spared["third"] > job.spared["middle"] > 0


def test_the_forked_run_asks_its_own_recipe_whether_the_shared_phase_was_enough(job, source):
    """Nothing is worth opening more for one that asks for a gain of 1."""
    asks = (phases(FIRST, SECOND), "recipe.always=1", "recipe.min_gain=1.0")
    whole = job("enough", *asks, callbacks=(KeepPhases([2]), KeepPhases([1])))
    forked = job("enough_too", *asks, source=source)
    assert forked.resumed
    assert whole.trainer.current_epoch == forked.trainer.current_epoch == 2 < source.trainer.current_epoch
    assert_same_run(whole, forked)
    # A source that ended early is gone on from where it ended.
    kept = job.begin(whole.folder, 2, phases(FIRST, SECOND, DEEP), *asks[1:])
    assert json.loads((kept.path / "begun_from.json").read_text())["phases"] == 1


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(("{depth: 0.2, steps: 12, views: 1, rate: 1.0}", SECOND), id="another first phase"),
        pytest.param(
            (FIRST, "{depth: 0.19, steps: 8, views: 2, rate: 1.0}", DEEP), id="two entries that are one phase"
        ),
        pytest.param((FIRST, "{depth: 0.5, steps: 8, views: 1, rate: 1.0}"), id="images are not augmented"),
        pytest.param((FIRST,), id="one phase, whose schedule ends with the run"),
    ],
)
def test_what_only_looks_alike_runs_whole(job, source, entries):
    assert not job.begin(source.folder, 2, phases(*entries)).path.exists()
    assert job.spared["begun"] == 0


def test_a_source_without_the_phase_or_with_a_damaged_one_leaves_nothing_behind(job, source, tmp_path, capsys):
    damaged = RunFolder(tmp_path / "damaged")
    shutil.copytree(source.folder.path, damaged.path)
    asks = phases(FIRST, DEEP)
    assert job.begin(damaged, 1, asks).path.exists()
    weights = damaged.checkpoints / "phase_1" / "last" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert not job.begin(damaged, 1, asks).path.exists()
    assert "is damaged" in capsys.readouterr().out
    assert not job.begin(RunFolder(tmp_path / "absent"), 1, asks).path.exists()


def test_a_source_killed_right_after_its_phase_still_keeps_it(job):
    with pytest.raises(Killed):
        job("killed", phases(FIRST, DEEP), callbacks=(StopIn(epoch=2, batch=None), KeepPhases([1])))
    kept = job.folder / "killed" / "checkpoints" / "phase_1"
    assert not kept.exists()
    job("killed", phases(FIRST, DEEP), callbacks=(KeepPhases([1]),))
    assert kept.is_dir()


def test_what_is_kept_takes_no_room_and_stays_as_it_was(source, tmp_path):
    kept = [source.folder.checkpoints / f"phase_{number}" / "last" for number in (1, 2)]
    epochs = [json.loads((folder / "manifest.json").read_text())["epoch"] for folder in (*kept, source.folder.last)]
    assert epochs == [1, 3, 4]
    link_folder(kept[0], tmp_path / "copy")
    assert (tmp_path / "copy" / "weights.safetensors").samefile(kept[0] / "weights.safetensors")


def test_a_run_of_one_phase_keeps_none(job):
    run = job("one", phases(FIRST), callbacks=(KeepPhases([1]),))
    assert not (run.folder.checkpoints / "phase_1").exists()
