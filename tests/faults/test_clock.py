"""The wall clock jumps by a day while a run trains: nothing ends early, goes on for ever or takes negative time."""

import json
import time

import pytest
from lightning.pytorch import Callback

from ft.build.run import build
from ft.fit import fit
from ft.phases.budget import Budget
from tests.conftest import TINY, composed

DAY = 86_400.0


class Jump(Callback):
    """Somebody sets the clock after the first batch."""

    def __init__(self, patch: pytest.MonkeyPatch, seconds: float) -> None:
        self.patch = patch
        self.seconds = seconds
        self.jumped = False

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not self.jumped:
            self.jumped = True
            right = time.time
            self.patch.setattr(time, "time", lambda: right() + self.seconds)


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forwards", "backwards"])
@pytest.mark.parametrize("limit", ["budget=10m", pytest.param("plugins=[time_limit]", marks=pytest.mark.full)])
def test_a_jump_of_the_clock_changes_nothing(tmp_path, monkeypatch, jump, limit):
    began = time.monotonic()
    with composed(*TINY, f"runs_dir={tmp_path}", limit, "test=false") as config:
        run = build(config, started=began)
    jumps = Jump(monkeypatch, jump)
    run.trainer.callbacks.insert(0, jumps)
    fit(run, started=began)
    assert jumps.jumped
    summary = json.loads(run.folder.summary.read_text())
    assert summary["epochs"] == 2
    assert 0 < summary["seconds"] <= time.monotonic() - began + 1
    assert summary["images_per_second"] > 0


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forwards", "backwards"])
def test_what_is_left_of_a_budget_does_not_follow_the_clock(monkeypatch, jump):
    budget = Budget(100, started=time.monotonic())
    before = budget.left
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + jump)
    assert before - 5 < budget.left <= before
