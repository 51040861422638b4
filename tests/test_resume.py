"""A run that was interrupted and resumed equals the uninterrupted one."""

import json
import signal

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import OmegaConf

from ft.checkpoint.keep import KeepCheckpoints
from ft.checkpoint.load import load
from ft.errors import UserError
from ft.fit import fit
from tests.conftest import Killed, StopIn, assert_equal_weights, weights_of

OPTIONS = ("trainer.max_epochs=3", "model.head.drop_rate=0.3", "model.head.hidden=[16]", "schedule=cosine")


@pytest.mark.parametrize(
    "plugins", ["plugins=[]", pytest.param("plugins=[dropout_tuning,lr_finder]", marks=pytest.mark.full)]
)
def test_killed_right_after_a_checkpoint_it_knows_all_of_that_epoch(
    build_run, train_run, resume_run, monkeypatch, plugins
):
    """Before Lightning hands over what was logged in it."""
    whole = train_run(*OPTIONS, "trainer.check_val_every_n_epoch=2", plugins)
    cut = build_run(*OPTIONS, "trainer.check_val_every_n_epoch=2", plugins)
    with monkeypatch.context() as patch:
        written = KeepCheckpoints.on_train_epoch_end

        def killed(self, trainer, pl_module):
            written(self, trainer, pl_module)
            if trainer.current_epoch == 1:
                raise Killed

        patch.setattr(KeepCheckpoints, "on_train_epoch_end", killed)
        with pytest.raises(Killed):
            fit(cut, started=0.0)
    again = resume_run(cut)
    files = [run.folder.path / "metrics.csv" for run in (whole, again)]
    assert files[0].read_text() == files[1].read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_after_an_epoch_equals_the_uninterrupted_run(build_run, train_run, resume_run, workers):
    whole = train_run(*OPTIONS, f"data.num_workers={workers}")
    cut = build_run(*OPTIONS, f"data.num_workers={workers}")
    cut.trainer.callbacks.append(StopIn(epoch=1, batch=None))
    with pytest.raises(Killed):
        fit(cut, started=0.0)
    assert_equal_weights(weights_of(whole), weights_of(resume_run(cut)))


def test_resumed_inside_an_epoch_equals_the_uninterrupted_run(build_run, train_run, resume_run):
    whole = train_run(*OPTIONS)
    cut = build_run(*OPTIONS)
    cut.trainer.callbacks.insert(0, StopIn(epoch=1, batch=1))
    with pytest.raises(KeyboardInterrupt):
        fit(cut, started=0.0)
    again = resume_run(cut)
    assert again.trainer.global_step == whole.trainer.global_step
    assert_equal_weights(weights_of(whole), weights_of(again))


def test_ctrl_c_leaves_a_usable_run_folder(build_run):
    run = build_run(*OPTIONS)
    run.trainer.callbacks.insert(0, StopIn(epoch=1, batch=1))
    with pytest.raises(KeyboardInterrupt):
        fit(run, started=0.0)
    summary = json.loads(run.folder.summary.read_text())
    assert summary["status"] == "interrupted"
    assert summary["best_epoch"] == 0
    assert run.folder.checkpoint("best") != run.folder.checkpoint("last")


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_last_epochs_checkpoint(build_run):
    class Impatient(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if trainer.current_epoch == 1:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    run = build_run(*OPTIONS)
    run.trainer.callbacks.append(Impatient())
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(run, started=0.0)
    assert load(run.folder.last)["global_step"] == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_number_of_workers_does_not_change_the_result(train_run):
    assert_equal_weights(weights_of(train_run(*OPTIONS)), weights_of(train_run(*OPTIONS, "data.num_workers=2")))


def test_same_seed_same_numbers_and_another_seed_others(train_run):
    one, same, other = (weights_of(train_run(f"seed={seed}")) for seed in (3, 3, 4))
    assert_equal_weights(one, same)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_goes_on_with_its_metrics(train_run, resume_run):
    run = train_run("trainer.max_epochs=1")
    again = resume_run(run, "trainer.max_epochs=3")
    lines = again.folder.path.joinpath("metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2"]
    assert again.folder.path == run.folder.path


def test_another_group_on_resume_is_refused(train_run, resume_run):
    run = train_run("trainer.max_epochs=1")
    with pytest.raises(UserError, match="optimizer cannot be another choice"):
        resume_run(run, "optimizer=sgd")


def test_a_resumed_run_stays_as_frozen_as_it_was(build_run, train_run, resume_run, pretrained):
    options = (*OPTIONS, pretrained, "model.open=[stage4,head]")
    whole = train_run(*options)
    cut = build_run(*options)
    cut.trainer.callbacks.append(StopIn(epoch=1, batch=None))
    with pytest.raises(Killed):
        fit(cut, started=0.0)
    again = resume_run(cut)
    assert again.module.phase.stages == {"stage4", "head"}
    assert_equal_weights(weights_of(whole), weights_of(again))


def test_a_run_of_before_there_were_recipes_goes_on(train_run, resume_run):
    run = train_run("trainer.max_epochs=1")
    whole = OmegaConf.load(run.folder.config)
    for key in ("recipe", "cache", "budget"):
        del whole[key]
    del whole.data.decoded, whole.data.decoded_limit, whole.data.suggested.flip, whole.trainer.autotune
    OmegaConf.save(whole, run.folder.config)
    again = resume_run(run, "trainer.max_epochs=2")
    assert again.trainer.current_epoch == 2
    assert again.module.recipe.name == "full"
