"""Gradual unfreezing: when which stage opens, at which rate, and what it says about a schedule that cannot be kept."""

from typing import Any

import pytest
import torch

from ft.errors import Answer, UserError
from ft.fit import fit
from plugins.gradual_unfreezing import num_open_stages, phase_starts, plateau_starts
from tests.conftest import weights_of
from tests.plugins.conftest import Diary

ON = ("plugins=[gradual_unfreezing]", "trainer.max_epochs=4")
KEY = "plugins.gradual_unfreezing"


def stages_by_epoch(runs, *overrides):
    diary = Diary()
    run = runs.train(*ON, *overrides, watch=diary)
    stage_of = {name: stage.name for stage in run.module.model.stages() for name in stage.parameters}
    opened = {epoch: {stage_of[name] for name in names} for (epoch, batch), (names, _) in diary.lines.items()}
    return run, diary, opened


def test_the_number_of_open_stages_counts_from_the_head():
    assert [num_open_stages(phase, stages_per_phase=1, up_to=3) for phase in range(4)] == [1, 2, 3, 3]
    assert [num_open_stages(phase, stages_per_phase=2, up_to=6) for phase in range(4)] == [1, 3, 5, 6]


def test_phases_begin_after_their_epochs_and_the_last_length_is_repeated():
    assert phase_starts(2, 4) == [0, 2, 4, 6]
    assert phase_starts([1, 3], 4) == [0, 1, 4, 7]


def test_a_plateau_of_the_metric_begins_the_next_phase():
    values = [0.5, 0.6, 0.6, 0.6, 0.7, 0.7, 0.6]
    assert plateau_starts(values, mode="max", patience=1) == [0, 4, 7]
    assert plateau_starts([-value for value in values], mode="min", patience=1) == [0, 4, 7]
    assert plateau_starts([], mode="max", patience=0) == [0]


def test_stages_open_one_after_another_head_first(runs):
    run, _, opened = stages_by_epoch(runs)
    names = run.module.stage_names
    assert opened == {epoch: set(names[-1 - epoch :]) for epoch in range(4)}
    assert run.metrics.rows[2]["plugins/gradual_unfreezing/open_stages"] == 3


def test_only_stages_that_were_ever_open_have_moved(runs):
    run = runs.build(*ON, f"{KEY}.up_to=2", "optimizer.weight_decay=0.5")
    before = {name: value.clone() for name, value in run.module.model.state_dict().items()}
    fit(run, started=0.0)
    after = {name.removeprefix("model."): value for name, value in weights_of(run).items()}
    moved = {
        stage.name
        for stage in run.module.model.stages()
        for name in (*stage.parameters, *stage.buffers)
        if not torch.equal(before[name], after[name])
    }
    assert moved == {"stage4", "head"}


def test_an_explicit_schedule_is_kept(runs):
    schedule = f"{KEY}.schedule=[{{epoch:0,open:[head]}},{{epoch:2,open:[stem,head]}},{{epoch:3,open:all}}]"
    run, _, opened = stages_by_epoch(runs, schedule)
    assert opened == {0: {"head"}, 1: {"head"}, 2: {"stem", "head"}, 3: set(run.module.stage_names)}


def test_a_plateau_opens_the_next_stage_and_a_resumed_run_remembers_it(runs):
    # A rate of nearly nothing: the metric never improves, so every second epoch is a plateau.
    options = (*ON, f"{KEY}.plateau=0", "optimizer.lr=1e-12", "optimizer.weight_decay=0")
    whole, written = None, Diary()
    whole = runs.train(*options, watch=written)
    sizes = [len(written.lines[epoch, 0][0]) for epoch in range(4)]
    assert sizes[0] < sizes[-1]
    diary = Diary()
    again = runs.cut_and_resume(*options, epoch=3, batch=1, watch=diary)
    assert diary.lines[3, 2] == written.lines[3, 2]
    assert again.module.watched == whole.module.watched


def test_rates_fall_with_depth_and_rise_again_in_every_phase(runs):
    _, diary, _ = stages_by_epoch(
        runs, f"{KEY}.lr_decay=0.5", f"{KEY}.warmup=0.5", "schedule=constant", "optimizer.lr=0.1"
    )
    batches = 1 + max(batch for _, batch in diary.lines)
    # Two groups a stage, with and without weight decay, from the head down.
    full = diary.lines[2, batches - 1][1]
    assert full[:6:2] == pytest.approx([0.1, 0.05, 0.025])
    for epoch in range(4):
        first, last = diary.lines[epoch, 0][1][0], diary.lines[epoch, batches - 1][1][0]
        assert first == pytest.approx(1e-4)
        assert last == pytest.approx(0.1)


def test_the_schedule_is_printed_to_be_edited_and_nothing_is_trained(runs, tmp_path):
    from omegaconf import OmegaConf

    before = set(runs.folder.iterdir())
    with pytest.raises(Answer) as answer:
        runs.build(*ON, f"{KEY}.print_schedule=true")
    assert set(runs.folder.iterdir()) == before
    text = str(answer.value)
    assert "# Stages: stem, stage1, stage2, stage3, stage4, head" in text
    assert "{epoch: 1, open: [stage4, head]}  # " in text
    assert "parameters, lr 0.001, " in text
    # What was printed is an experiment as it stands.
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    found: Any = OmegaConf.to_container(OmegaConf.create(text))
    assert found["defaults"] == [{"override /plugins": ["gradual_unfreezing"]}]
    run = runs.train(f"hydra.searchpath=['{tmp_path}']", "experiment=mine", "trainer.max_epochs=4")
    assert [plugin.name for plugin in run.module.plugins] == ["gradual_unfreezing"]
    assert [len(run.module.phase_at(epoch).stages) for epoch in range(4)] == [1, 2, 3, 4]


def test_a_picture_of_the_schedule_is_drawn(runs):
    run = runs.train(*ON, f"{KEY}.plot=true")
    assert (run.folder.path / "gradual_unfreezing.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"{KEY}.epochs_per_phase=0", "epochs_per_phase must be at least 1, or a list of such, got 0"),
        (f"{KEY}.epochs_per_phase=[1,0]", "epochs_per_phase must be at least 1"),
        (f"{KEY}.lr_decay=0", r"lr_decay must be in \(0, 1\]"),
        (f"{KEY}.up_to=9", "up_to must be at most 6 here, got 9"),
        (f"{KEY}.up_to=6", r"up_to=6 is never reached: its last stage opens in epoch 5 .*trainer.max_epochs=4"),
        (f"{KEY}.schedule=[{{epoch:0,open:[hat]}}]", r"names 'hat'; the model's stages are stem, stage1.* mean head"),
        (f"{KEY}.schedule=[{{epoch:1,open:[head]}}]", r"must begin with epoch 0 .*got \[1\]"),
        (
            f"{KEY}.schedule=[{{epoch:0,open:[head]}},{{epoch:50,open:all}}]",
            r"below trainer.max_epochs=4, got \[0, 50\]",
        ),
        (f"{KEY}.up_to=abc", "up_to must be a whole number or null, got 'abc'"),
        (f"{KEY}.plateau=true", "plateau must be a whole number or null, got True"),
        (f"{KEY}.schedule=[{{epoch:0}}]", "must be a list of {epoch: E, open: "),
        ("model.open=head", "opens stage1, but model.open keeps it frozen: set model.open=all"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(runs, override, message):
    with pytest.raises(UserError, match=message):
        runs.build(*ON, override)


def test_random_weights_open_everything_and_say_so(runs, capsys):
    run = runs.train(*ON, "model.weights=none", "trainer.max_epochs=1")
    assert run.module.plugins == []
    assert run.module.phase.stages == set(run.module.stage_names)
    assert "gradual_unfreezing: of no use on random weights; left out, every stage is open" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((f"{KEY}.plateau=0", "trainer.check_val_every_n_epoch=2"), "plateau needs a validation after every epoch"),
        (
            (f"{KEY}.lr_decay=0.1", "optimizer=lbfgs"),
            "lr_decay needs a rate for each stage, and optimizer=lbfgs has one",
        ),
    ],
)
def test_what_the_run_cannot_give_is_refused(runs, overrides, message):
    with pytest.raises(UserError, match=message):
        runs.build(*ON, *overrides)


def test_plugins_that_leave_a_later_epoch_with_nothing_are_refused_before_the_first(runs):
    before = set(runs.folder.iterdir())
    with pytest.raises(UserError, match="no stage is open in epoch 1"):
        runs.build(
            "plugins=[gradual_unfreezing,linear_probe]",
            f"{KEY}.schedule=[{{epoch:0,open:[head]}},{{epoch:1,open:[stage4]}}]",
        )
    assert set(runs.folder.iterdir()) == before
