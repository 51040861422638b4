"""``budget``: a run ends in time with the best model so far on disk."""

import time

import pytest
import torch
from lightning.pytorch import Callback

from ft.duration import seconds_of
from ft.errors import UserError
from ft.fit import fit
from ft.phases import frozen_pass
from ft.phases.activation_store import CLOSING_SECONDS
from ft.phases.budget import Budget
from tests.conftest import weights_of

AUTO = ("recipe=auto", "trainer.max_epochs=null")


@pytest.mark.parametrize(
    ("said", "seconds"), [("60s", 60), ("5m", 300), ("1.5h", 5400), (90, 90), ("2.5", 2.5), (None, None)]
)
def test_a_time_is_said_in_seconds_minutes_or_hours(said, seconds):
    assert seconds_of(said) == seconds


@pytest.mark.parametrize("said", ["soon", "5x", "-3s", "0s", "1.2.3s", "", True])
def test_what_is_no_time_is_refused(said):
    with pytest.raises(UserError, match=r"budget must be a time such as 60s, 5m or 1h, or null, got"):
        seconds_of(said)


def test_what_is_left_leaves_room_for_what_follows_training():
    clock = iter([10.0, 15.0, 21.0])
    budget = Budget(20.0, started=5.0, now=lambda: next(clock))
    budget.reserve = 4.0
    assert budget.left == 11.0
    assert budget.allows(6.0)
    assert not budget.allows(1.0)
    assert Budget(None, started=0.0).left == float("inf")


class Slow(Callback):
    """Every batch takes a tenth of a second."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        time.sleep(0.1)


@pytest.mark.parametrize("recipe", [AUTO, ("recipe=full", "trainer.max_epochs=500")])
def test_a_run_ends_within_it_and_leaves_its_best(build_run, pretrained, recipe):
    run = build_run(*recipe, pretrained, "budget=6s", "recipe.epochs=500", "optimizer.lr=1e-4")
    run.trainer.callbacks.append(Slow())
    run.module.cache.budget.started = started = time.monotonic()
    fit(run, started=started)
    assert time.monotonic() - started < 6.5
    assert run.trainer.current_epoch < (run.trainer.max_epochs or 0)
    assert run.folder.best.is_dir()
    assert (run.folder.path / "summary.json").is_file()
    assert all(value.isfinite().all() for value in weights_of(run).values())


def test_a_pass_that_would_take_too_long_sees_a_random_part_of_the_images(build_run, pretrained, capsys, monkeypatch):
    run = build_run(*AUTO, pretrained, "budget=4s", "data.num_images=400", "recipe.min_epochs=1", "recipe.max_epochs=1")
    pixels = frozen_pass._pixels

    def slowly(*args):
        time.sleep(0.3)
        return pixels(*args)

    monkeypatch.setattr(frozen_pass, "_pixels", slowly)
    run.module.cache.budget.started = time.monotonic()
    fit(run, started=time.monotonic())
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cache: train, plain view")]
    assert len(said) == 1
    assert "of 400 images through the frozen stages once" in said[0]
    assert run.folder.best.is_dir()
    rows = run.module.cache.features(run.module, run.loaders, []).row
    seen = (rows >= 0).nonzero().flatten()
    assert 0 < len(seen) < 400
    classes = run.data.splits["train"].targets[seen].bincount(minlength=4)
    assert (classes > 0).all(), "a random part, not the first classes"


@pytest.mark.full
def test_without_a_budget_nothing_is_reserved_and_nothing_is_cut(build_run, pretrained):
    run = build_run(*AUTO, pretrained)
    fit(run, started=0.0)
    assert run.module.cache.budget.left == float("inf")
    assert torch.isfinite(torch.tensor(run.module.cache.budget.reserve))
    assert run.module.cache.budget.reserve >= CLOSING_SECONDS
