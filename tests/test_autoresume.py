"""``autoresume=true``: the same command finds its own unfinished run, and only that."""

import json
import os
import shutil
import signal

import pytest

from ft.build.autoresume import claimed
from ft.build.run import build
from ft.errors import Answer, UserError
from ft.fit import fit
from tests.conftest import TINY, Killed, StopIn, assert_equal_weights, composed, weights_of

OPTIONS = ("trainer.max_epochs=3", "model.head.drop_rate=0.3", "test=false")


@pytest.fixture
def command(tmp_path):
    """``python -m ft.train`` in this process, up to an interruption if there is one."""

    def run(*words, stop=None, going_on=True):
        with composed(*TINY, *OPTIONS, f"runs_dir={tmp_path}", f"autoresume={going_on}", *words) as config:
            claim = claimed(config)
            made = build(config, claim=claim)
        if stop is not None:
            made.trainer.callbacks.insert(0, stop)
            with pytest.raises((Killed, KeyboardInterrupt)):
                fit(made, started=0.0)
        else:
            fit(made, started=0.0)
        return made

    return run


def test_the_same_command_goes_on_with_its_unfinished_run_and_ends_as_the_whole_one(command, train_run):
    cut = command(stop=StopIn(epoch=1, batch=1))
    again = command()
    assert again.resumed
    assert again.folder.path == cut.folder.path
    assert_equal_weights(weights_of(train_run(*OPTIONS)), weights_of(again))


@pytest.mark.full
def test_the_word_may_be_added_afterwards(command):
    cut = command(stop=StopIn(epoch=1, batch=1), going_on=False)
    assert command().folder.path == cut.folder.path


@pytest.mark.full
def test_without_the_word_a_new_run_begins_and_that_is_the_one_that_goes_on(command):
    first = command(stop=StopIn(epoch=1, batch=1))
    second = command(stop=StopIn(epoch=1, batch=1), going_on=False)
    assert first.folder.path != second.folder.path
    assert command().folder.path == second.folder.path


def test_another_command_does_not_go_on_with_it(command):
    cut = command(stop=StopIn(epoch=1, batch=1))
    other = command("optimizer.lr=0.002")
    assert not other.resumed
    assert other.folder.path != cut.folder.path


@pytest.mark.full
def test_what_does_not_change_the_result_may_differ(command):
    cut = command(stop=StopIn(epoch=1, batch=1))
    again = command("report=true", "logger=[]")
    assert again.folder.path == cut.folder.path


def test_a_finished_run_is_told_and_not_trained_again(command):
    done = command()
    before = done.folder.summary.stat().st_mtime_ns
    with pytest.raises(Answer, match="finished already, nothing is trained again") as told:
        command()
    assert str(done.folder.path) in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert done.folder.summary.stat().st_mtime_ns == before


def test_killed_before_its_first_checkpoint_it_begins_anew_in_the_same_folder(command, train_run):
    cut = command(stop=StopIn(epoch=0, batch=None))
    (cut.folder.path / "left_over").touch()
    assert not cut.folder.last.exists()
    again = command()
    assert not again.resumed
    assert again.folder.path == cut.folder.path
    assert not (again.folder.path / "left_over").exists()
    assert_equal_weights(weights_of(train_run(*OPTIONS)), weights_of(again))


@pytest.mark.full
def test_killed_before_its_config_was_written_it_begins_anew(command):
    cut = command(stop=StopIn(epoch=0, batch=None))
    cut.folder.config.unlink()
    assert command().folder.path == cut.folder.path


@pytest.mark.full
@pytest.mark.parametrize("name", ["..", ".", "", "a/../..", "/tmp"])
def test_a_name_that_is_no_run_of_this_folder_is_not_followed(command, tmp_path, name):
    cut = command(stop=StopIn(epoch=0, batch=None))
    (file,) = [path for path in (tmp_path / ".asked").iterdir() if path.suffix != ".lock"]
    file.write_text(name)
    again = command()
    assert again.folder.path.parent == tmp_path
    assert again.folder.path != cut.folder.path
    assert cut.folder.config.is_file()


@pytest.mark.full
def test_a_run_whose_folder_is_gone_begins_anew(command):
    cut = command(stop=StopIn(epoch=1, batch=1))
    shutil.rmtree(cut.folder.path)
    assert not command().resumed


@pytest.fixture
def elsewhere(tmp_path):
    """Another process that works on the same command until the test ends."""
    started, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with composed(*TINY, *OPTIONS, f"runs_dir={tmp_path}", "autoresume=true") as config:
                claim = claimed(config)
            os.write(started[1], b"1")
            os.read(go[0], 1)
            del claim
        finally:
            os._exit(0)
    os.read(started[0], 1)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for end in (*started, *go):
        os.close(end)


def test_of_two_processes_that_start_the_same_command_one_is_told(elsewhere, command):
    with pytest.raises(UserError, match="another process works on a run of this config") as told:
        command()
    assert len(str(told.value).splitlines()) <= 3
    # A run that does not want to go on with another's is its own.
    assert not command(going_on=False).resumed


@pytest.mark.full
def test_a_process_that_is_killed_leaves_no_lock_behind(tmp_path, command):
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with composed(*TINY, *OPTIONS, f"runs_dir={tmp_path}", "autoresume=true") as config:
                claim = claimed(config)
            if os.fork() == 0:
                os.write(ready[1], b"1")
                signal.pause()  # a worker that outlives it
            signal.pause()
            del claim
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    with open(f"/proc/{child}/task/{child}/children") as file:
        worker = int(file.read().split()[0])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        assert not command().resumed
    finally:
        os.kill(worker, signal.SIGKILL)
        for end in ready:
            os.close(end)


@pytest.mark.full
def test_a_requeued_slurm_job_goes_on_with_its_own_run_without_the_word(command, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    mine = command(stop=StopIn(epoch=1, batch=1), going_on=False)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    other = command(stop=StopIn(epoch=1, batch=1), going_on=False)
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    assert command(stop=StopIn(epoch=0, batch=0), going_on=False).folder.path not in (
        mine.folder.path,
        other.folder.path,
    )
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    again = command(going_on=False)
    assert again.folder.path == other.folder.path
    assert json.loads(again.folder.summary.read_text())["status"] == "finished"


@pytest.mark.full
def test_a_run_that_begins_anew_is_computed_as_it_was_tuned(command, monkeypatch):
    words = ("trainer.autotune=true",)
    cut = command(*words, stop=StopIn(epoch=0, batch=None))
    tuned = cut.config["trainer"]["tuned"]

    def measured(*args, **kwargs):
        raise AssertionError("it is measured again")

    monkeypatch.setattr("ft.build.tuning.autotune", measured)
    assert command(*words).config["trainer"]["tuned"] == tuned
