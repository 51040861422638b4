import math

import pytest
import torch

from ft.errors import UserError
from plugins.lr_finder import LrFinder, has_diverged, smooth, suggest, sweep
from tests.plugins.conftest import Diary

SHORT_SWEEP = ("plugins=[lr_finder]", "plugins.lr_finder.num_steps=8", "schedule=constant", "schedule.warmup=0")


def test_each_rate_is_the_same_multiple_of_the_one_before():
    assert sweep(1e-4, 1.0, 5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_smoothing_does_not_start_from_zero():
    # (0.5 * 2) / 0.5, then (0.5 * 1 + 0.5 * 4) / 0.75
    assert smooth([2.0, 4.0], smoothing=0.5) == pytest.approx([2.0, 2.5 / 0.75])
    assert smooth([2.0, 4.0], smoothing=0.0) == [2.0, 4.0]


def test_four_times_the_best_loss_is_divergence():
    assert not has_diverged([2.0, 1.0, 4.0])
    assert has_diverged([2.0, 1.0, 4.1])
    assert has_diverged([2.0, math.nan])
    assert has_diverged([math.inf])


def test_the_steepest_descent_is_suggested():
    # Slopes per factor of 10, by central differences: 0, -0.25, -0.75, -0.5, 1.
    assert suggest(sweep(1e-4, 1.0, 5), [2.0, 2.0, 1.5, 0.5, 0.5], smoothing=0.0) == pytest.approx(1e-2)


def test_smoothing_does_not_shift_the_suggestion():
    rates = sweep(1e-6, 1.0, 61)
    losses = [2.0 - 1.5 / (1 + math.exp(-(step - 30) / 2)) for step in range(61)]
    assert suggest(rates, losses, smoothing=0.0) == pytest.approx(1e-3)
    assert suggest(rates, losses, smoothing=0.8) == pytest.approx(1e-3, rel=0.3)


def test_the_noise_of_the_first_tenth_is_not_trusted():
    losses = [9.0, 5.0, *[4.0] * 14, 3.0, 2.9, 2.9, 2.9]
    rates = sweep(1e-4, 1.0, 20)
    assert suggest(rates, losses, smoothing=0.0) == pytest.approx(rates[16])


@pytest.mark.parametrize("losses", [[1.0, 2.0, 3.0], [math.inf] * 3, [1.0, math.nan, math.nan]])
def test_a_loss_that_never_falls_suggests_nothing(losses):
    assert suggest([1e-3, 1e-2, 1e-1], losses, smoothing=0.0) is None


def test_the_suggestion_takes_the_place_of_the_rate_and_stages_keep_their_share(runs, capsys):
    diary = Diary()
    longer = ("plugins.lr_finder.num_steps=30", "plugins.lr_finder.min_lr=1e-5")
    run = runs.train(*SHORT_SWEEP, *longer, "trainer.max_epochs=1", "optimizer.head_lr_scale=10", watch=diary)
    found = run.module.plugins[0].suggestion
    assert found is not None
    assert 1e-5 <= found <= 1.0
    _, rates = diary.lines[0, 0]
    assert max(rates) == pytest.approx(10 * found)
    assert min(rates) == pytest.approx(found)
    assert run.metrics.rows[0]["plugins/lr_finder/lr"] == pytest.approx(found)
    assert f"lr_finder: {found:.2g}; it is used in place of optimizer.lr=0.001" in capsys.readouterr().out


def test_only_what_is_open_trains_in_the_sweep_and_nothing_is_left_of_it(runs, monkeypatch):
    run = runs.build(*SHORT_SWEEP, "trainer.max_epochs=1", "model.open=head")
    plugin = run.module.plugins[0]
    before = {name: value.clone() for name, value in run.module.model.state_dict().items()}
    moved: set[str] = set()
    original = plugin._sweep

    def watched(module, trainer):
        step = module.training_step

        def spying(batch, number):
            now = module.model.state_dict()
            moved.update(name for name, value in before.items() if not torch.equal(value, now[name]))
            return step(batch, number)

        monkeypatch.setattr(module, "training_step", spying)
        random = torch.get_rng_state()
        result = original(module, trainer)
        monkeypatch.undo()
        after = module.model.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        assert torch.equal(random, torch.get_rng_state())
        assert all(parameter.grad is None for parameter in module.model.parameters())
        assert not trainer.optimizers[0].state
        assert not module.repeating
        return result

    monkeypatch.setattr(plugin, "_sweep", watched)
    run.trainer.fit(run.module, run.loaders)
    assert moved
    assert all(name.startswith("head.") for name in moved)


def test_the_picture_is_drawn(runs):
    pytest.importorskip("matplotlib")
    run = runs.train(*SHORT_SWEEP, "plugins.lr_finder.plot=true", "trainer.max_epochs=1")
    assert (run.folder.path / "lr_finder.png").stat().st_size > 1000


@pytest.mark.parametrize("optimizer", ["lbfgs", "gd"])
def test_a_full_batch_optimizer_is_refused(build_run, optimizer):
    with pytest.raises(UserError, match=f"which optimizer={optimizer} does not take"):
        build_run("plugins=[lr_finder]", f"optimizer={optimizer}")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"min_lr": 0.0}, "min_lr must be above 0, got 0.0"),
        ({"max_lr": 1e-7}, "max_lr must be above min_lr=1e-07, got 1e-07"),
        ({"num_steps": 1}, "num_steps must be at least 2, got 1"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_value_out_of_range_is_refused(setting, words):
    usual = {"min_lr": 1e-7, "max_lr": 1.0, "num_steps": 100, "smoothing": 0.9, "apply": True, "plot": False}
    with pytest.raises(UserError, match=f"plugins.lr_finder.{words}"):
        LrFinder(**{**usual, **setting})


def test_a_resumed_run_keeps_the_rate_that_was_found(runs):
    from ft.build.run import build
    from tests.conftest import composed

    run = runs.train("plugins=[lr_finder]", "plugins.lr_finder.num_steps=10")
    with (
        composed(f"resume='{run.folder.path}'", "optimizer.lr=0.1") as config,
        pytest.raises(UserError, match=r"optimizer.lr is part of the optimizer's state"),
    ):
        build(config)
