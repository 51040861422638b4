import pytest
from lightning.pytorch import Callback

from ft.build.run import build
from ft.errors import UserError
from ft.fit import fit
from plugins.time_limit import TimeLimit, time_is_up
from tests.conftest import composed, weights_of


class Clock(Callback):
    """Ten seconds a batch. An epoch of the tiny run has six batches."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seconds += 10


@pytest.mark.parametrize(
    ("used", "ahead", "up"), [(59, 0, False), (60, 0, True), (20, 40, False), (21, 40, True), (61, 0, True)]
)
def test_time_is_up_when_it_is_used_or_would_be_before_the_next_end(used, ahead, up):
    assert time_is_up(used, ahead, 60) == up


LIMITED = ("plugins=[time_limit]", "plugins.time_limit.minutes=1.5", "trainer.max_epochs=4")
TO_THE_LAST_SECOND = (*LIMITED, "plugins.time_limit.whole_epochs=false")


def train(run):
    run.module.plugins[0].now = clock = Clock()
    run.trainer.callbacks.append(clock)
    fit(run, started=0.0)
    return run


def resumed(runs, run, *overrides):
    with composed(f"runs_dir='{runs.folder}'", f"resume='{run.folder.path}'", *overrides) as config:
        return train(build(config))


def test_an_epoch_that_cannot_end_in_time_is_not_begun(runs, capsys):
    run = train(runs.build(*LIMITED))
    assert run.trainer.global_step == 6
    assert sorted(run.metrics.rows) == [0]
    assert "stopped after 60 of 90 s, and an epoch takes 60 s" in capsys.readouterr().out


def test_an_epoch_that_is_overtaken_is_validated_and_leaves_its_checkpoint(runs, capsys):
    run = train(runs.build(*TO_THE_LAST_SECOND))
    assert run.trainer.global_step == 9
    assert "val/loss" in run.metrics.rows[1]
    assert run.checkpoints.best_epoch in (0, 1)
    assert "stopped after 90 of 90 s" in capsys.readouterr().out
    live = run.module.state_dict()
    assert all((value == live[name]).all() for name, value in weights_of(run).items())


def test_an_epoch_that_would_not_have_been_validated_is_when_time_ends_in_it(runs):
    run = train(runs.build(*TO_THE_LAST_SECOND, "trainer.check_val_every_n_epoch=3"))
    assert run.trainer.global_step == 9
    assert run.checkpoints.best_epoch == 1


@pytest.mark.parametrize("options", [LIMITED, TO_THE_LAST_SECOND])
def test_a_resumed_run_has_used_its_time_already(runs, options):
    run = train(runs.build(*options))
    again = resumed(runs, run)
    assert again.trainer.global_step == run.trainer.global_step
    assert sorted(again.metrics.rows) == sorted(run.metrics.rows)


def test_with_more_time_a_resumed_run_goes_on_with_the_next_epoch(runs):
    run = train(runs.build(*LIMITED))
    again = resumed(runs, run, "+plugins.time_limit.minutes=3")
    # 60 s before, and two epochs of 60 s fit into the rest.
    assert again.trainer.global_step == 18
    assert sorted(again.metrics.rows) == [0, 1, 2]


def test_after_an_epoch_that_was_cut_short_the_next_one_is_whole(runs):
    run = train(runs.build(*TO_THE_LAST_SECOND))
    again = resumed(runs, run, "+plugins.time_limit.minutes=100")
    assert sorted(again.metrics.rows) == [0, 1, 2, 3]
    assert again.trainer.global_step == 9 + 6 + 6


def test_the_last_epoch_is_no_reason_to_say_that_training_was_stopped(runs, capsys):
    train(runs.build(*LIMITED, "trainer.max_epochs=1"))
    assert "stopped" not in capsys.readouterr().out


def test_no_time_at_all_is_refused():
    with pytest.raises(UserError, match=r"plugins.time_limit.minutes must be null or above 0, got 0"):
        TimeLimit(minutes=0, whole_epochs=True)
