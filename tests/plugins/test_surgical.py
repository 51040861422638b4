"""Surgical fine-tuning: the named stages, or those whose gradients are largest for their weights."""

import pytest
import torch
from lightning.pytorch import Callback

from ft.errors import UserError
from ft.fit import fit
from plugins.surgical import highest, relative_gradient_norm
from tests.plugins.conftest import Diary

ON = ("plugins=[surgical]", "trainer.max_epochs=3")


def test_the_ratio_by_hand():
    weights = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    gradients = {"a": torch.tensor([0.0, 0.3]), "b": torch.tensor([0.4])}
    assert relative_gradient_norm(weights, gradients) == pytest.approx(0.5 / 5)
    assert relative_gradient_norm({"a": torch.zeros(2)}, {"a": torch.ones(2)}) == 0


def test_the_highest_come_first():
    assert highest({"stem": 0.1, "stage1": 0.3, "stage2": 0.2}, 2) == ["stage1", "stage2"]


def test_the_named_stages_open_after_the_head_has_trained(runs):
    run = runs.train(*ON, "plugins.surgical.stages=[stage1]")
    assert run.module.phase_at(0).stages == {"head"}
    assert run.module.phase.stages == {"stage1", "head"}


def test_auto_measures_once_and_opens_the_stage_with_the_highest_ratio(runs, capsys):
    diary = Diary()
    run = runs.train(*ON, watch=diary)
    plugin = run.module.plugins[0]
    assert set(plugin.ratios) == set(run.module.stage_names) - {"head"}
    assert all(value > 0 for value in plugin.ratios.values())
    assert run.module.phase.stages == {*highest(plugin.ratios, 1), "head"}
    assert all("head" in name for name in diary.lines[0, 0][0])
    assert capsys.readouterr().out.count("|gradient| / |weight| of") == 1


def test_measuring_does_not_touch_the_run(runs):
    """A run whose auto chooses a stage equals one that was told to open it."""
    from tests.conftest import assert_equal_weights, weights_of

    chosen = runs.train(*ON)
    stage = highest(chosen.module.plugins[0].ratios, 1)[0]
    told = runs.train(*ON, f"plugins.surgical.stages=[{stage}]")
    assert_equal_weights(weights_of(chosen), weights_of(told))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages=[stage7]", "names 'stage7'; the model's stages are stem, stage1"),
        ("stages=null", "stages must be text or a list of text, got None"),
        ("num=0", "num must be at least 1, got 0"),
        ("num=6", "num must be at most 5, the stages of this backbone, got 6"),
        ("from_epoch=3", "from_epoch=3 is never reached: trainer.max_epochs=3"),
        ("num_images=0", "num_images must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(runs, override, message):
    with pytest.raises(UserError, match=message):
        runs.build(*ON, f"plugins.surgical.{override}")


def test_auto_chooses_among_the_open_stages_and_a_closed_one_is_refused(runs):
    run = runs.train(*ON, "model.open=[stage4,head]")
    assert run.module.phase.stages == {"stage4", "head"}
    with pytest.raises(UserError, match=r"stages names stage1, but model.open keeps it frozen: set model.open=all"):
        runs.build(*ON, "plugins.surgical.stages=[stage1]", "model.open=[stage4,head]")


def test_the_rate_finder_sweeps_what_auto_has_opened(runs):
    seen = []

    class Sweep(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append(pl_module.phase.stages)

    run = runs.build("plugins=[surgical]", "plugins.surgical.from_epoch=0", "trainer.max_epochs=1")
    run.trainer.callbacks.insert(0, Sweep())
    fit(run, started=0.0)
    assert seen == [{*highest(run.module.plugins[0].ratios, 1), "head"}]
