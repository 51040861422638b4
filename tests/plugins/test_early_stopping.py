import math

import pytest

from ft.build.run import build
from ft.errors import UserError
from ft.fit import fit
from plugins.early_stopping import EarlyStopping, should_stop, validations_since_best
from tests.conftest import composed


@pytest.mark.parametrize(
    ("values", "since"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.6, 0.6], 1),
        ([0.5, 0.7, 0.6, 0.65], 2),
        ([0.5, 0.7, 0.6, 0.8], 0),
        ([math.nan, math.nan], 2),
        ([0.5, math.nan, 0.6], 0),
    ],
)
def test_validations_since_the_best_are_counted(values, since):
    assert validations_since_best(values, mode="max", min_delta=0.0) == since


def test_a_loss_improves_downwards():
    assert validations_since_best([1.0, 0.8, 0.9], mode="min", min_delta=0.0) == 1


def test_an_improvement_below_min_delta_does_not_count():
    assert validations_since_best([0.5, 0.55, 0.6], mode="max", min_delta=0.1) == 2
    assert validations_since_best([0.5, 0.55, 0.65], mode="max", min_delta=0.1) == 0


def test_patience_validations_are_waited_for():
    assert not should_stop([0.7, 0.6, 0.6], mode="max", patience=2, min_delta=0.0)
    assert should_stop([0.7, 0.6, 0.6, 0.6], mode="max", patience=2, min_delta=0.0)


def test_a_run_stops_and_stays_stopped_until_its_patience_is_raised(runs, capsys):
    stalls = ("plugins=[early_stopping]", "plugins.early_stopping.patience=0", "plugins.early_stopping.min_delta=10")
    run = runs.train(*stalls, "trainer.max_epochs=6")
    assert sorted(run.metrics.rows) == [0, 1]
    assert "val/acc has not improved for 1 validations" in capsys.readouterr().out

    def resumed(*overrides):
        with composed(f"runs_dir='{runs.folder}'", f"resume='{run.folder.path}'", *overrides) as config:
            again = build(config)
        fit(again, started=0.0)
        return again

    again = resumed()
    assert sorted(again.metrics.rows) == [0, 1]
    assert again.trainer.global_step == run.trainer.global_step
    assert sorted(resumed("+plugins.early_stopping.patience=1").metrics.rows) == [0, 1, 2]


def test_a_negative_patience_is_refused():
    with pytest.raises(UserError, match=r"plugins.early_stopping.patience must be null or at least 0, got -1"):
        EarlyStopping(patience=-1, min_delta=0.0)


def test_a_negative_min_delta_is_refused():
    with pytest.raises(UserError, match=r"plugins.early_stopping.min_delta must be at least 0, got -0.1"):
        EarlyStopping(patience=1, min_delta=-0.1)


def test_a_run_without_validation_is_refused(build_run):
    with pytest.raises(UserError, match=r"set trainer.limit_val_batches above 0"):
        build_run("plugins=[early_stopping]", "trainer.limit_val_batches=0")
