"""A loss or a gradient that is not finite: the run stops, leaves the step out, or goes back."""

import json
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file

from ft.errors import NotFinite, UserError
from ft.faults.finite import are_finite
from ft.faults.guard import Guard
from ft.fit import fit
from ft.module import FineTuner
from ft.phases import head_init
from tests.conftest import Killed, StopIn, assert_equal_weights, weights_of

OPTIONS = ("trainer.max_epochs=3", "model.head.drop_rate=0.3", "test=false")
EMA = "plugins=[ema]"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """Losses or gradients of some training batches, ``(epoch, batch)``, are not finite."""
    one_step = FineTuner.one_step

    def bring(*when: tuple[int, int], gradient: bool = False, once: bool = False) -> list[tuple[int, int]]:
        left = list(when)

        def faulty(self, batch, kind):
            loss = one_step(self, batch, kind)
            progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
            now = (self.current_epoch, progress.ready - 1)
            if loss is None or kind != "train" or now not in left or self.repeating:
                return loss
            if once:
                left.remove(now)
            # As a model does whose activations overflow: the running statistics are spoilt by then.
            spoilt = next(each for name, each in self.model.named_buffers() if name.endswith("running_mean"))
            spoilt.data.fill_(math.nan)
            return loss + (0 * loss).sqrt() if gradient else loss * math.nan

        monkeypatch.setattr(FineTuner, "one_step", faulty)
        return left

    return bring


def saved(run) -> list:
    files = sorted(run.folder.path.rglob("*.safetensors"))
    return [(file, load_file(file)) for file in files]


def test_finite_is_told_of_every_kind_of_number():
    huge = torch.full((3,), 3e38)
    assert are_finite([huge, torch.ones(2, dtype=torch.long), torch.empty(0)])
    assert are_finite([])
    for bad in (math.nan, math.inf, -math.inf):
        assert not are_finite([huge, torch.tensor([1.0, bad])])


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
def test_stop_names_the_step_and_its_files_and_keeps_the_last_checkpoint(build_run, broken, gradient):
    broken((1, 2), gradient=gradient)
    run = build_run(*OPTIONS, EMA)
    with pytest.raises(NotFinite) as error:
        fit(run, started=0.0)
    told = str(error.value)
    assert "the gradient" in told if gradient else "the training loss" in told
    assert "epoch 2, step 7" in told
    assert "optimizer.lr" in told
    assert "trainer.gradient_clip_val" in told
    assert "trainer.precision" in told
    names = run.data.splits["train"].names
    shown = told.partition("(of ")[2].partition(" and 5 more)")[0].split(", ")
    order = run.loaders.train_dataloader().batches.order(1)  # pyright: ignore
    assert shown == [names[at] for at in order[16:19]]
    assert len(told.splitlines()) <= 3
    assert json.loads(run.folder.summary.read_text())["status"] == "failed"
    assert run.folder.last.is_dir()
    kept = saved(run)
    assert kept
    assert all(bool(are_finite(state.values())) for _, state in kept)


def test_skip_leaves_no_trace_of_the_step(build_run, broken, monkeypatch):
    """Weights, statistics, optimizer and average are those of a run whose batch was empty there."""
    when = (1, 2)
    broken(when)
    run = build_run(*OPTIONS, EMA, "on_nan=skip")
    fit(run, started=0.0)
    monkeypatch.undo()
    one_step = FineTuner.one_step

    def nothing(self, batch, kind):
        now = (self.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1)
        if kind == "train" and now == when:
            self.step_left_out = True  # for the average
            return None
        return one_step(self, batch, kind)

    monkeypatch.setattr(FineTuner, "one_step", nothing)
    other = build_run(*OPTIONS, EMA)
    fit(other, started=0.0)
    assert_equal_weights(weights_of(run), weights_of(other))
    assert run.trainer.global_step == other.trainer.global_step
    summary = json.loads(run.folder.summary.read_text())
    assert summary["skipped_steps"] == 1
    assert math.isfinite(summary["train/loss"])
    assert "skipped_steps" not in json.loads(other.folder.summary.read_text())


@pytest.mark.full
def test_skip_leaves_out_the_whole_accumulated_step(build_run, broken):
    broken((0, 1))
    run = build_run("trainer.max_epochs=1", "trainer.accumulate_grad_batches=2", "on_nan=skip", "test=false")
    fit(run, started=0.0)
    assert Guard.of(run.trainer).skipped == 1
    assert all(bool(are_finite(state.values())) for _, state in saved(run))


@pytest.mark.full
def test_too_many_steps_in_a_row_end_the_run(build_run, broken):
    broken((0, 1), (0, 2), (0, 3), (1, 0))
    run = build_run(*OPTIONS, "on_nan=skip", "on_nan_limits.skips=3")
    with pytest.raises(NotFinite, match=r"4 steps in a row.*on_nan_limits.skips"):
        fit(run, started=0.0)


@pytest.mark.parametrize("when", [(1, 2), (0, 2)], ids=["second epoch", "first epoch"])
@pytest.mark.full
def test_rollback_goes_on_from_the_last_checkpoint_at_a_lower_rate(build_run, broken, train_run, monkeypatch, when):
    broken(when, once=True)
    run = build_run(*OPTIONS, EMA, "on_nan=rollback", "on_nan_limits.lr_factor=0.1")
    fit(run, started=0.0)
    assert json.loads(run.folder.summary.read_text())["rollbacks"] == 1
    rows = (run.folder.path / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]
    assert all(bool(are_finite(state.values())) for _, state in saved(run))
    if when[0] == 0:
        # From the very beginning: as if the rate had been lower all the time.
        monkeypatch.undo()
        other = train_run(*OPTIONS, EMA, "optimizer.lr=1e-4")
        ours = train_run(*OPTIONS, EMA, "optimizer.lr=1e-3")
        assert run.module.optimizer_options.lr == pytest.approx(ours.module.optimizer_options.lr)
        for name, value in weights_of(run).items():
            assert torch.allclose(value.float(), weights_of(other)[name].float(), atol=1e-6), name


@pytest.mark.full
def test_rollback_passes_over_a_damaged_checkpoint(build_run, broken, capsys):
    broken((2, 1), once=True)
    run = build_run(*OPTIONS, "on_nan=rollback")
    run.trainer.callbacks.append(_DamagesLast(epoch=2))
    fit(run, started=0.0)
    assert json.loads(run.folder.summary.read_text())["status"] == "finished"
    rows = (run.folder.path / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]
    told = capsys.readouterr().out
    assert "weights.safetensors" in told
    assert "which is whole: epoch 0" in told


class _DamagesLast(Callback):
    def __init__(self, *, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            self.epoch = -1
            weights = Path(trainer.default_root_dir, "checkpoints", "last", "weights.safetensors")
            assert weights.is_file()
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.unlink()  # the best checkpoint may share it
            weights.write_bytes(content)


@pytest.mark.full
def test_a_run_that_is_killed_after_a_rollback_ends_where_the_whole_one_does(build_run, broken, resume_run):
    """Before and after the next checkpoint."""
    options = (*OPTIONS, "on_nan=rollback", "trainer.max_epochs=4", "optimizer=sgd", "optimizer.lr=1e12")
    options = (*options, "on_nan_limits.lr_factor=1e-14")
    whole = build_run(*options)
    fit(whole, started=0.0)
    assert Guard.of(whole.trainer).rollbacks == 1
    for epoch in (0, 2):
        cut = build_run(*options)
        cut.trainer.callbacks.append(_AfterRollback(epoch))
        with pytest.raises(Killed):
            fit(cut, started=0.0)
        again = resume_run(cut)
        assert Guard.of(again.trainer).rollbacks == 1
        assert_equal_weights(weights_of(whole), weights_of(again))


class _AfterRollback(StopIn):
    def __init__(self, epoch: int) -> None:
        super().__init__(epoch=epoch, batch=None)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if Guard.of(trainer).rollbacks and (trainer.current_epoch, batch_idx) == (self.epoch, 1):
            raise Killed

    def on_train_epoch_start(self, trainer, pl_module):
        pass


@pytest.mark.full
def test_rollbacks_are_bounded(build_run, broken):
    broken((1, 1))
    run = build_run(*OPTIONS, "on_nan=rollback", "on_nan_limits.rollbacks=2")
    with pytest.raises(NotFinite, match=r"after 2 rollbacks \(on_nan_limits.rollbacks\)"):
        fit(run, started=0.0)
    assert all(bool(are_finite(state.values())) for _, state in saved(run))


def test_weights_that_overflow_in_the_last_step_are_not_written(build_run):
    run = build_run("trainer.max_epochs=1", "optimizer=sgd", "optimizer.lr=1e38", "trainer.limit_train_batches=1")
    with pytest.raises(NotFinite):
        fit(run, started=0.0)
    assert all(bool(are_finite(state.values())) for _, state in saved(run))


@pytest.mark.parametrize("answer", ["stop", "skip"])
@pytest.mark.full
def test_a_validation_loss_that_is_not_finite(build_run, monkeypatch, answer):
    one_step = FineTuner.one_step

    def faulty(self, batch, kind):
        if kind == "val" and self.current_epoch == 1:
            batch = batch._replace(images=batch.images * math.nan)
        return one_step(self, batch, kind)

    monkeypatch.setattr(FineTuner, "one_step", faulty)
    run = build_run(*OPTIONS, f"on_nan={answer}")
    if answer == "stop":
        with pytest.raises(NotFinite, match="val/loss is not a finite number in epoch 2, although the weights are"):
            fit(run, started=0.0)
    else:
        fit(run, started=0.0)
    assert run.checkpoints.best_epoch != 1


@pytest.mark.full
def test_stored_activations_are_watched_too(build_run, broken, pretrained):
    broken((0, 1))
    run = build_run(pretrained, "recipe=full", "model.open=[stage4,head]", "trainer.max_epochs=1")
    with pytest.raises(NotFinite, match=r"epoch 1, step 2 \(of "):
        fit(run, started=0.0)
    assert run.module.cache.suffix is not None


@pytest.mark.parametrize("recipe", ["head", "linear"])
@pytest.mark.full
def test_features_that_are_not_finite_are_refused_before_a_head_is_made_of_them(
    build_run, pretrained, monkeypatch, recipe
):
    features = head_init.head_features

    def spoilt(*args):
        found, targets = features(*args)
        found[3, 0] = math.inf
        return found, targets

    monkeypatch.setattr(head_init, "head_features", spoilt)
    run = build_run(pretrained, f"recipe={recipe}")
    with pytest.raises(NotFinite, match=r"features of 1 of .* training images"):
        fit(run, started=0.0)
    assert not run.folder.checkpoints.exists()


@pytest.mark.full
def test_a_head_that_diverges_is_refused(build_run, pretrained):
    run = build_run(pretrained, "recipe=head", "model.head.hidden=[4]", "recipe.head_training.lr=1e30")
    with pytest.raises(NotFinite, match=r"recipe.head_training.lr"):
        fit(run, started=0.0)


@pytest.mark.full
def test_a_search_along_a_line_may_look_where_the_loss_is_infinite(build_run, pretrained):
    run = build_run(pretrained, "optimizer=lbfgs", "model.open=head", "trainer.max_epochs=1", "test=false")
    fit(run, started=0.0)
    assert all(bool(are_finite(state.values())) for _, state in saved(run))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("on_nan=skp", "Did you mean skip"),
        ("on_nan_limits.skips=0", "on_nan_limits.skips must be at least 1, got 0"),
        ("on_nan_limits.lr_factor=1.5", r"on_nan_limits.lr_factor must be in \(0, 1\)"),
    ],
)
def test_a_mistake_is_refused(build_run, override, told):
    with pytest.raises(UserError, match=told):
        build_run(override)


def test_skip_and_rollback_need_mini_batches(build_run):
    with pytest.raises(UserError, match="on_nan=skip needs a mini-batch optimizer"):
        build_run("optimizer=lbfgs", "on_nan=skip")
