"""SIGTERM and Ctrl-C wherever they come: the right end, soon, and a run folder that goes on to the same weights."""

import json
import os
import signal
import time

import pytest
from lightning.pytorch import Callback

from ft.checkpoint import interrupt
from ft.checkpoint.load import load
from ft.errors import Terminated
from ft.fit import fit
from tests.conftest import assert_equal_weights, weights_of

OPTIONS = ("trainer.max_epochs=3", "model.head.drop_rate=0.3", "schedule=cosine", "test=false")
AUTO = (
    "recipe=auto",
    "trainer.max_epochs=null",
    "recipe.min_epochs=1",
    "recipe.always=9",
    "recipe.phases=[{depth: 0.2, steps: 8, views: 1, rate: 1.0}, {depth: 0.5, steps: 8, views: 2, rate: 1.0}]",
)


class SignalIn(Callback):
    """Sends a signal to this process inside a hook of one epoch.

    Args:
        hook: Of Lightning's callbacks.
        number: Of the signal.
        epoch: The hook counts only there.
        batch: Likewise; ``None`` for hooks that know of none.
        times: One after the other.
    """

    def __init__(self, hook, number=signal.SIGTERM, *, epoch=1, batch=None, times=1):
        def send(trainer, pl_module, *args):
            inside = batch is None or args[-1] == batch
            if trainer.current_epoch == epoch and inside and not self.sent:
                self.sent = True
                for _ in range(times):
                    signal.raise_signal(number)

        self.sent = False
        setattr(self, hook, send)


@pytest.fixture
def stopped(build_run):
    """Trains with a callback that sends a signal; the run and what it ended with."""

    def run(watch, *options):
        made = build_run(*options)
        made.trainer.callbacks.append(watch)
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
        with pytest.raises(KeyboardInterrupt) as ended:
            fit(made, started=0.0)
        assert watch.sent
        assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
        assert json.loads(made.folder.summary.read_text())["status"] == "interrupted"
        return made, type(ended.value)

    return run


PLACES = [
    # The hook, its batch, and the optimizer steps in the checkpoint of a run with 4 steps an epoch.
    ("on_train_batch_end", 1, 6),
    pytest.param("on_train_batch_end", 3, 8, marks=pytest.mark.full),
    ("on_validation_start", None, 8),
    pytest.param("on_validation_epoch_end", None, 8, marks=pytest.mark.full),
    pytest.param("on_train_epoch_end", None, 8, marks=pytest.mark.full),
]


@pytest.mark.parametrize(("hook", "batch", "steps"), PLACES)
def test_sigterm_finishes_what_is_begun_and_the_run_goes_on_exactly_there(
    stopped, train_run, resume_run, hook, batch, steps
):
    whole = train_run(*OPTIONS)
    cut, ended = stopped(SignalIn(hook, batch=batch), *OPTIONS)
    assert ended is Terminated
    assert load(cut.folder.last)["global_step"] == steps
    assert_equal_weights(weights_of(whole), weights_of(resume_run(cut)))


@pytest.mark.parametrize("batch", [0, pytest.param(1, marks=pytest.mark.full), pytest.param(2, marks=pytest.mark.full)])
def test_gradients_that_are_still_being_collected_are_not_lost(stopped, train_run, resume_run, batch):
    """The checkpoint is written between two steps of the optimizer, not between two batches."""
    options = (*OPTIONS, "data.batch_size=4", "trainer.accumulate_grad_batches=3")
    cut, _ = stopped(SignalIn("on_train_batch_end", batch=batch), *options)
    assert_equal_weights(weights_of(train_run(*options)), weights_of(resume_run(cut)))


@pytest.mark.parametrize(
    ("number", "ends_with"),
    [pytest.param(signal.SIGINT, KeyboardInterrupt, marks=pytest.mark.full), (signal.SIGTERM, Terminated)],
)
def test_a_signal_in_the_final_test_stops_at_once_and_the_rest_is_made_up_for(stopped, resume_run, number, ends_with):
    options = [*OPTIONS, "test=true"]
    started = time.monotonic()
    cut, ended = stopped(SignalIn("on_test_batch_start", number, epoch=3), *options)
    assert ended is ends_with
    assert time.monotonic() - started < 10
    assert "test/acc" not in json.loads(cut.folder.summary.read_text())
    again = resume_run(cut)
    summary = json.loads(again.folder.summary.read_text())
    assert (summary["status"], summary["epochs"]) == ("finished", 3)
    assert "test/acc" in summary


def test_a_signal_while_the_head_is_solved_stops_at_once(build_run, pretrained, monkeypatch):
    run = build_run(*AUTO, pretrained)

    def solve(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it goes on")

    monkeypatch.setattr("ft.phases.head_init.solve_linear_head", solve)
    with pytest.raises(Terminated):
        fit(run, started=0.0)
    assert not run.folder.last.exists()


@pytest.mark.full
def test_a_signal_while_a_later_phase_is_computed_stops_at_once_and_resumes_exactly(
    stopped, train_run, resume_run, pretrained
):
    options = (*AUTO, pretrained, "test=false")
    whole = train_run(*options)
    start = whole.module.recipe.starts()[1]
    assert start > 0

    class InTheCache(Callback):
        sent = False

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == start:
                self.sent = True
                compute = pl_module.cache.enter

                def enter(*args, **kwargs):
                    compute(*args, **kwargs)
                    signal.raise_signal(signal.SIGTERM)

                pl_module.cache.enter = enter

    cut, ended = stopped(InTheCache(), *options)
    assert ended is Terminated
    again = resume_run(cut)
    assert again.module.recipe == whole.module.recipe
    assert_equal_weights(weights_of(whole), weights_of(again))


@pytest.mark.full
def test_a_plugin_that_is_stopped_at_the_end_of_training_does_its_part_when_the_run_goes_on(
    stopped, train_run, resume_run
):
    options = (*OPTIONS, "plugins=[soup]", "task.label_smoothing=0.1")
    whole = train_run(*options)

    class AtTheEnd(Callback):
        sent = False

        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                soup = pl_module.plugins[0]
                soup.on_train_end = self.stop

        def stop(self, trainer, pl_module):
            self.sent = True
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    cut, _ = stopped(AtTheEnd(), *options)
    again = resume_run(cut)
    assert_equal_weights(load(whole.folder.best)["state_dict"], load(again.folder.best)["state_dict"])
    assert again.checkpoints.best_values == whole.checkpoints.best_values


@pytest.mark.full
def test_a_launcher_that_passes_sigterm_on_does_not_stop_the_run_at_once(stopped):
    cut, _ = stopped(SignalIn("on_before_optimizer_step", times=2), *OPTIONS)
    assert load(cut.folder.last)["global_step"] == 5


@pytest.mark.full
def test_a_second_sigterm_stops_at_once_and_keeps_the_last_epochs_checkpoint(stopped, monkeypatch):
    monkeypatch.setattr(interrupt, "ONE_REQUEST", 0.0)
    cut, ended = stopped(SignalIn("on_before_optimizer_step", times=2), *OPTIONS)
    assert ended is Terminated
    assert load(cut.folder.last)["global_step"] == 4


def test_sigterm_does_not_wait_for_a_batch_that_does_not_end(stopped, monkeypatch):
    monkeypatch.setattr(interrupt, "PATIENCE", 0.2)

    class Slow(Callback):
        sent = False

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if trainer.current_epoch == 1:
                self.sent = True
                signal.raise_signal(signal.SIGTERM)
                time.sleep(30)

    started = time.monotonic()
    cut, ended = stopped(Slow(), *OPTIONS)
    assert time.monotonic() - started < 15
    assert ended is Terminated
    assert load(cut.folder.last)["global_step"] == 4


def test_slurms_announcement_saves_and_asks_to_be_started_again(stopped, resume_run, train_run, tmp_path, monkeypatch):
    asked = tmp_path / "asked.txt"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    for name, value in {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "5"}.items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGUSR1)
    cut, ended = stopped(SignalIn("on_before_optimizer_step", signal.SIGUSR1), *OPTIONS)
    assert ended is Terminated
    assert asked.read_text() == "requeue 12_5\n"
    assert signal.getsignal(signal.SIGUSR1) is before
    assert load(cut.folder.last)["global_step"] == 5
    assert_equal_weights(weights_of(train_run(*OPTIONS)), weights_of(resume_run(cut)))


@pytest.mark.full
def test_a_job_that_cannot_be_requeued_says_what_to_do(stopped, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", "")
    stopped(SignalIn("on_before_optimizer_step", signal.SIGUSR1), *OPTIONS)
    assert "Submit the job again with autoresume=true" in capsys.readouterr().err
