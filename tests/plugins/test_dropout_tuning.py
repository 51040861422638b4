import math
from typing import Any

import pytest
import torch
from torch import nn

from ft.errors import UserError
from ft.model.dropouts import find_dropouts
from ft.optim.head_cross_validation import cross_validate
from plugins.dropout_tuning import DropoutTuning, auto_rate, curve_rate, relative_gap
from tests.conftest import assert_equal_weights, weights_of
from tests.plugins.conftest import Diary

USUAL: dict[str, Any] = {
    "where": ["head"], "curve": "constant", "rate": 0.2, "cutoff": 0.5, "stages": None, "target": 0.1, "step": 0.05,
    "bounds": [0.0, 0.5], "choose": None, "folds": 5, "fit_steps": 50, "fit_lr": 1e-2, "plot": False,
}  # fmt: skip
ON = "plugins=[dropout_tuning]"


def setting(name, value):
    return f"plugins.dropout_tuning.{name}={value}"


@pytest.mark.parametrize(
    ("curve", "rates"),
    [
        ("constant", [0.4] * 6),
        ("early", [0.4, 0.4, 0.4, 0.4, 0.0, 0.0]),
        ("late", [0.0, 0.0, 0.0, 0.0, 0.4, 0.4]),
        ("linear", [0.4, 0.3, 0.2, 0.1, 0.0, 0.0]),
        ("cosine", [0.4, 0.2 + 0.2 * 0.5**0.5, 0.2, 0.2 - 0.2 * 0.5**0.5, 0.0, 0.0]),
    ],
)
def test_a_curve_comes_to_its_end_at_the_cutoff(curve, rates):
    made = [curve_rate(epoch, curve=curve, rate=0.4, cutoff=4 / 6, num_epochs=6) for epoch in range(6)]
    assert made == pytest.approx(rates)


@pytest.mark.parametrize(("curve", "rate"), [("early", 0.0), ("late", 0.4), ("linear", 0.0), ("cosine", 0.0)])
def test_a_cutoff_of_zero_is_the_end_from_the_beginning(curve, rate):
    assert curve_rate(0, curve=curve, rate=0.4, cutoff=0.0, num_epochs=6) == pytest.approx(rate)


def test_the_gap_is_relative_to_the_training_loss():
    assert relative_gap(2.0, 3.0) == pytest.approx(0.5)
    assert relative_gap(2.0, 1.0) == pytest.approx(-0.5)


OVERFIT, UNDERFIT, EVEN = (1.0, 2.0), (1.0, 1.0), (1.0, 1.5)


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ([], 0.2),
        ([OVERFIT], 0.3),
        ([UNDERFIT], 0.1),
        ([EVEN], 0.2),
        ([OVERFIT] * 5, 0.4),
        ([UNDERFIT] * 5, 0.0),
        ([UNDERFIT] * 5 + [OVERFIT], 0.1),
        ([(1.0, math.nan), OVERFIT], 0.3),
    ],
)
def test_auto_goes_up_where_the_gap_is_too_large_and_down_where_it_is_not(losses, rate):
    assert auto_rate(losses, start=0.2, target=0.5, step=0.1, bounds=(0.0, 0.4)) == pytest.approx(rate)


def test_auto_begins_within_its_bounds():
    assert auto_rate([], start=0.9, target=0.5, step=0.1, bounds=(0.1, 0.4)) == 0.4


def rates_of(model, place):
    sites = [site for site in find_dropouts(model, model.stages(), {}) if site.place == place]
    return [getattr(model.get_submodule(site.module), site.attribute) for site in sites]


def test_drop_paths_keep_their_share_of_the_deepest(runs):
    run = runs.build(ON, "model.drop_path_rate=0.1", setting("where", "[drop_path]"), architecture="test_vit")
    model, plugin = run.module.model, run.module.plugins[0]
    built = rates_of(model, "drop_path")
    assert max(built) == pytest.approx(0.1)
    assert len(set(built)) > 1
    plugin.begin_epoch(0, run.module)
    assert rates_of(model, "drop_path") == pytest.approx([2 * rate for rate in built])
    plugin.begin_epoch(0, run.module)
    assert rates_of(model, "drop_path") == pytest.approx([2 * rate for rate in built])


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_each_place_is_set_and_no_other(runs, architecture):
    for place, others in (("head", ("backbone",)), ("backbone", ("head",))):
        run = runs.build(ON, setting("where", f"[{place}]"), setting("curve", "early"), architecture=architecture)
        model, plugin = run.module.model, run.module.plugins[0]
        plugin.begin_epoch(0, run.module)
        assert set(rates_of(model, place)) == {0.2}
        assert {rate for other in others for rate in rates_of(model, other)} == {0.0}
        plugin.begin_epoch(1, run.module)
        assert set(rates_of(model, place)) == {0.0}


def test_timms_functional_dropout_drops(runs):
    """test_resnet has no module for it: its float is handed to F.dropout."""
    run = runs.build(ON, setting("where", "[backbone]"))
    run.module.plugins[0].begin_epoch(0, run.module)
    model = run.module.model.train()
    features = model.features(torch.rand(4, 3, 32, 32))
    assert (features == 0).float().mean() > 0.05
    assert model.backbone.drop_rate == 0.2


def test_every_hidden_layer_of_the_head_is_set(build_run):
    run = build_run(ON, "model.head.hidden=[16,16]")
    run.module.plugins[0].begin_epoch(0, run.module)
    assert [part.p for part in run.module.model.head if isinstance(part, nn.Dropout)] == [0.2, 0.2]


def test_a_stage_has_its_factor(runs):
    stages = setting("stages", "{head: 0.5, stage1: 2}")
    run = runs.build(ON, setting("where", "[head,backbone]"), stages, architecture="test_vit")
    run.module.plugins[0].begin_epoch(0, run.module)
    model = run.module.model
    assert model.head.drop.p == pytest.approx(0.1)
    named = {stage.name: stage for stage in model.stages()}
    of = {name: {model.get_submodule(each).p for each in named[name].modules
                 if isinstance(model.get_submodule(each), nn.Dropout)} for name in ("stage1", "stage2")}  # fmt: skip
    assert of == {"stage1": {0.4}, "stage2": {0.2}}


def test_a_model_that_is_not_timms_is_searched_too():
    from ft.model.stages import Stage

    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout2d(0.1), nn.Dropout(0.1))
    stages = [Stage("body", (), (), ("0", "1")), Stage("head", (), (), ("2",))]
    assert [(site.place, site.module) for site in find_dropouts(model, stages, {})] == [
        ("backbone", "1"),
        ("head", "2"),
    ]


def test_the_rate_is_logged_and_drawn(runs):
    pytest.importorskip("matplotlib")
    run = runs.train(
        ON, setting("curve", "linear"), setting("rate", 0.4), setting("cutoff", 1), setting("plot", "true")
    )
    rows = run.metrics.rows
    assert [rows[epoch]["plugins/dropout_tuning/rate"] for epoch in (0, 1)] == pytest.approx([0.4, 0.2])
    assert (run.folder.path / "dropout_tuning.png").stat().st_size > 1000


AUTO = (ON, setting("curve", "auto"), setting("step", 0.2), setting("target", -0.1), "trainer.max_epochs=3")


def test_auto_reads_the_same_losses_as_are_logged_and_keeps_them(runs):
    run = runs.train(*AUTO)
    plugin, rows = run.module.plugins[0], run.metrics.rows
    for epoch in range(3):
        train, val = plugin.losses[epoch]
        assert train == pytest.approx(rows[epoch]["train/loss"], rel=1e-5)
        assert val == pytest.approx(rows[epoch]["val/loss"])
        assert rows[epoch]["plugins/dropout_tuning/gap"] == pytest.approx(relative_gap(train, val))
    rates = [rows[epoch]["plugins/dropout_tuning/rate"] for epoch in range(3)]
    assert rates[1] == pytest.approx(auto_rate([plugin.losses[0]], start=0.2, target=-0.1, step=0.2, bounds=(0, 0.5)))
    assert rates[1] != rates[0]
    # ``last`` is written after the plugin has seen the epoch.
    kept = torch.load(run.folder.last / "state.pt", weights_only=True)["callbacks"]["plugins.dropout_tuning"]
    assert kept["losses"] == plugin.losses


def test_auto_resumed_inside_an_epoch_goes_on_with_the_losses_of_the_whole_epoch(runs, whole_run):
    whole, _ = whole_run(*AUTO)
    again = runs.cut_and_resume(*AUTO, epoch=1, batch=1, watch=Diary())
    assert again.module.plugins[0].losses == whole.module.plugins[0].losses
    assert_equal_weights(weights_of(whole), weights_of(again))


def test_auto_waits_for_the_next_validation(runs):
    run = runs.train(*AUTO, "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4")
    assert sorted(run.module.plugins[0].losses) == [1, 3]


def separable(num=60, width=40):
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(num) % 2
    features = torch.randn(num, width, generator=generator)
    features[:, 0] += 4 * targets
    return features, targets


def validated(head, features, targets, rates, seed=0):
    from ft.data.randomness import seeded

    return cross_validate(
        head, features, targets, rates=rates, loss=nn.functional.cross_entropy, num_folds=3, num_steps=30, lr=1e-2,
        weight_decay=0.0, draws=lambda fold: seeded(seed, fold),
    )  # fmt: skip


def test_cross_validation_is_the_mean_over_folds_by_hand():
    features, targets = separable()
    head = nn.Sequential(nn.Dropout(0.0), nn.Linear(40, 2))
    from ft.data.randomness import seeded

    with seeded(0, -1):
        order = torch.randperm(60)
    losses = []
    for fold in order.split(20):
        rest = [each for each in order.tolist() if each not in fold.tolist()]
        fresh = nn.Linear(40, 2)
        fresh.load_state_dict(head[1].state_dict())
        optimizer = torch.optim.AdamW(fresh.parameters(), lr=1e-2, weight_decay=0.0)
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(fresh(features[rest]), targets[rest]).backward()
            optimizer.step()
        losses.append(nn.functional.cross_entropy(fresh(features[fold]), targets[fold]).item())
    assert validated(head, features, targets, [0.0]) == pytest.approx([sum(losses) / 3], rel=1e-4)


def test_cross_validation_leaves_head_and_generators_as_they_are_and_repeats_itself():
    features, targets = separable()
    head = nn.Sequential(nn.Dropout(0.3), nn.Linear(40, 2))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    random = torch.get_rng_state()
    one, other = (validated(head, features, targets, [0.0, 0.5, 0.5]) for _ in range(2))
    assert one == other
    assert one[1] == one[2], "the same random numbers for every rate"
    assert one[0] != one[1]
    assert torch.equal(random, torch.get_rng_state())
    assert head[0].p == 0.3
    assert head.training
    assert_equal_weights(before, head.state_dict())


CHOOSE = (ON, "plugins.dropout_tuning.choose=[0.6,0.1]", setting("folds", 2), setting("fit_steps", 5))


def test_the_chosen_rate_takes_the_place_of_the_curves_highest_for_the_head(runs, capsys):
    where = setting("where", "[head,backbone]")
    run = runs.train(*CHOOSE, where, setting("curve", "linear"), setting("cutoff", 1))
    chosen = run.module.plugins[0].chosen
    assert chosen in (0.6, 0.1)
    assert run.metrics.rows[0]["plugins/dropout_tuning/chosen"] == pytest.approx(chosen)
    assert f"dropout_tuning: head dropout {chosen:g}, by held-out loss (0.6: " in capsys.readouterr().out
    assert run.module.model.head.drop.p == pytest.approx(chosen / 2)
    assert run.module.model.backbone.drop_rate == pytest.approx(0.1)


def test_choosing_leaves_no_trace_but_the_choice(runs):
    chosen = runs.train(*CHOOSE)
    rate = chosen.module.plugins[0].chosen
    plain = runs.train(ON, setting("rate", rate))
    assert_equal_weights(weights_of(plain), weights_of(chosen))


def test_a_resumed_run_does_not_choose_again(runs, whole_run, capsys):
    whole, _ = whole_run(*CHOOSE)
    capsys.readouterr()
    again = runs.cut_and_resume(*CHOOSE, epoch=1, batch=1, watch=Diary())
    assert capsys.readouterr().out.count("by held-out loss") == 1
    assert again.module.plugins[0].chosen == whole.module.plugins[0].chosen
    assert_equal_weights(weights_of(whole), weights_of(again))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"where": ["haed"]}, r"where=haed is not a choice.*Did you mean head"),
        ({"curve": "linaer"}, r"curve=linaer is not a choice.*Did you mean linear"),
        ({"rate": 1.0}, r"rate must be in \[0, 1\), got 1.0"),
        ({"cutoff": 2}, r"cutoff must be in \[0, 1\], got 2"),
        ({"stages": {"head": -1}}, r"stages must be factors from 0"),
        ({"step": -0.1}, r"step must be at least 0, got -0.1"),
        ({"bounds": [0.5, 0.1]}, r"bounds must be a lowest and a highest rate"),
        ({"choose": [0.1, 1.0]}, r"choose must be null or rates in \[0, 1\)"),
        ({"choose": [0.1], "where": ["backbone"]}, r"where must include head beside choose"),
        ({"folds": 1}, r"folds must be at least 2, got 1"),
        ({"fit_steps": 0}, r"fit_steps must be at least 1, got 0"),
        ({"fit_lr": 0}, r"fit_lr must be above 0, got 0"),
    ],
)
def test_a_value_out_of_range_is_refused(changed, words):
    with pytest.raises(UserError, match=f"plugins.dropout_tuning.{words}"):
        DropoutTuning(**{**USUAL, **changed})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((setting("where", "[drop_path]"),), "where=drop_path: .* set model.drop_path_rate=0.1"),
        ((setting("stages", "{stage9: 2}"),), "stages names 'stage9'; the model's stages are stem, stage1"),
        ((setting("stages", "{head: 5}"),), "times the highest rate 0.2 must be below 1"),
        (
            (setting("curve", "linear"), "trainer.max_epochs=-1", "trainer.max_steps=4"),
            "trainer.max_epochs must be set",
        ),
        ((setting("curve", "auto"), "trainer.limit_val_batches=0"), "curve=auto reads the validation loss"),
        (
            ("plugins.dropout_tuning.choose=[0.1]", setting("folds", 1000)),
            "folds must be at most the .* training images",
        ),
        (("optimizer=lbfgs",), "optimizer=lbfgs needs the same"),
    ],
)
def test_what_a_run_has_no_use_for_is_refused_by_name(build_run, overrides, words):
    with pytest.raises(UserError, match=words):
        build_run(ON, *overrides)
