"""Comparisons whose truth is known: the same, clearly better, and no better than chance says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.metrics import f1_score

from ft.errors import UserError
from ft.inference.predictions import Predictions
from ft.results.tables import comparison_tables, summary
from ft.scoring.compare import Comparison, compare_runs
from ft.scoring.matching import match
from ft.scoring.significance import holm, mcnemar_p, two_sided_p
from tests.results.made import classified, labelled, measured, with_hits


def compared(metric: str = "acc", resamples: int = 1000, **runs: Predictions) -> Comparison:
    return compare_runs(runs, metric=metric, seed=0, resamples=resamples)


def hits(num_images: int, *wrong: range) -> Predictions:
    right = torch.ones(num_images, dtype=torch.bool)
    for each in wrong:
        right[list(each)] = False
    return with_hits(right)


@pytest.mark.parametrize("metric", ["acc", "f1", "auroc", "nll", "ece"])
def test_a_run_cannot_be_told_from_itself(metric):
    found = classified(120, 4)
    (pair,) = compared(metric, A=found, B=found).pairs
    assert (pair.p, pair.p_holm, pair.difference.low, pair.difference.value, pair.difference.high) == (1, 1, 0, 0, 0)
    assert pair.verdict == "A and B are not distinguishable"
    assert pair.mcnemar is not None
    assert (pair.mcnemar.first_only, pair.mcnemar.second_only, pair.mcnemar.p) == (0, 0, 1)


def test_a_clearly_better_run_is_called_better_whichever_comes_first():
    good, bad = hits(200, range(10)), hits(200, range(50))
    for runs in ({"good": good, "bad": bad}, {"bad": bad, "good": good}):
        found = compared(**runs)
        assert [scored.run for scored in found.runs] == ["good", "bad"]
        (pair,) = found.pairs
        assert pair.verdict == "good is better than bad"
        assert pair.difference.value == pytest.approx(0.2)
        assert 0.13 < pair.difference.low < 0.2 < pair.difference.high < 0.27
        assert (pair.mcnemar.first_only, pair.mcnemar.second_only) == (40, 0)
        assert pair.mcnemar.p == pytest.approx(2 * 0.5**40)
        assert pair.images_needed is None


def test_less_of_an_error_is_better():
    good, bad = measured(200, 2), measured(200, 2)
    bad = replace(
        bad, logits=bad.logits + 0.3 * torch.randn(bad.logits.shape, generator=torch.Generator().manual_seed(5))
    )
    for metric in ("rmse", "mae", "r2"):
        found = compared(metric, bad=bad, good=good)
        assert found.pairs[0].verdict == "good is better than bad"
        assert (found.pairs[0].difference.value > 0) == (metric == "r2")
        assert found.pairs[0].mcnemar is None


def test_pairing_finds_what_two_intervals_would_hide():
    # The same mistakes and twelve more: the intervals of the two overlap, and still no image speaks for B.
    found = compared(A=hits(300, range(60)), B=hits(300, range(72)))
    assert found.runs[1].metric.high > found.runs[0].metric.low
    assert found.pairs[0].differs


@pytest.mark.parametrize(("metric", "most"), [("acc", 0.08), ("f1", 0.09)])
def test_runs_that_are_equally_good_are_told_apart_in_about_one_of_twenty_cases(metric, most):
    generator = np.random.default_rng(0)
    trials, told = 300, 0
    for _ in range(trials):
        # 80 % right on the images that are easy or hard for both; on a fifth of them each has luck of its own.
        shared, own = torch.tensor(generator.random(200) < 0.8), torch.tensor(generator.random((2, 200)) < 0.8)
        alone = torch.tensor(generator.random(200) < 0.2)
        one, two = (with_hits(torch.where(alone, each, shared)) for each in own)
        told += compared(metric, 300, A=one, B=two).pairs[0].differs
    assert 0.02 <= told / trials <= most


def test_many_equal_runs_are_told_apart_no_more_often_than_two():
    generator = np.random.default_rng(1)
    told = 0
    for _ in range(100):
        runs = {f"r{at}": with_hits(torch.tensor(generator.random(150) < 0.8)) for at in range(5)}
        told += any(pair.differs for pair in compared(resamples=500, **runs).pairs)
    assert told <= 11


@pytest.mark.parametrize(
    ("rates", "wrong"), [((0.90, 0.86), (range(30), range(26, 68))), ((0.80, 0.77), (range(60), range(46, 115)))]
)
def test_images_needed_are_about_enough(rates, wrong):
    # 300 images do not tell the two apart; mistakes fall on the same images as often as chance has it.
    (pair,) = compared(A=hits(300, wrong[0]), B=hits(300, wrong[1])).pairs
    assert not pair.differs
    needed = pair.images_needed
    assert needed is not None
    assert f"about {needed:,} test images would be needed" in pair.verdict
    generator, told = np.random.default_rng(2), 0
    for _ in range(60):
        one, two = (with_hits(torch.tensor(generator.random(needed) < rate)) for rate in rates)
        told += compared(resamples=300, A=one, B=two).pairs[0].differs
    # Four of five are promised, give or take three standard errors and the rounding.
    assert 0.63 <= told / 60 <= 0.97


def test_labels_are_compared_by_mean_average_precision():
    good = labelled(150, 3)
    bad = replace(
        good, logits=good.logits + 4 * torch.randn(good.logits.shape, generator=torch.Generator().manual_seed(7))
    )
    assert compared("map", good=good, bad=bad).pairs[0].verdict == "good is better than bad"


def test_the_difference_is_that_of_the_metric():
    one, two = classified(150, 5, seed=1), classified(150, 5, skill=1.0, seed=1)
    expected = [f1_score(each.targets, each.logits.argmax(1), average="macro") for each in (one, two)]
    assert compared("f1", A=one, B=two).pairs[0].difference.value == pytest.approx(expected[0] - expected[1], abs=1e-9)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]


def test_mcnemar_by_hand():
    assert mcnemar_p(1, 9) == pytest.approx(2 * binom.cdf(1, 10, 0.5))
    assert mcnemar_p(5, 5) == pytest.approx(1)
    assert mcnemar_p(0, 0) == 1


def test_the_bootstrap_never_says_zero_and_leaves_out_what_has_no_value():
    assert two_sided_p(np.array([1.0, 2.0, 3.0])) == 2 * 1 / 4
    assert two_sided_p(np.array([1.0, -1.0, 1.0, 1.0, np.nan])) == 2 * 2 / 5
    assert two_sided_p(np.zeros(10)) == 1


def test_the_tables_say_best_first_and_warn_where_the_tests_disagree(capsys):
    # Six images for one and none for the other: 2 exp(-6) by resampling, 2 / 2^6 exactly; five: 0.0135 and 0.0625.
    found = compared(resamples=4000, **{"[bold]A": hits(400, range(5, 30)), "B": hits(400, range(30))})
    assert found.pairs[0].differs
    assert found.pairs[0].mcnemar.p == 0.0625
    assert len(summary(found)) == 2
    comparison_tables(found, None)
    shown = capsys.readouterr().out
    assert "[bold]A is better than B." in shown
    assert "McNemar test disagrees on [bold]A and B (p 0.0625)" in shown.replace("\n", " ")
    assert shown.index("│ 1 │ [bold]A │ 0.9375") < shown.index("│ 2 │ B ")


def test_a_metric_of_another_task_is_refused():
    with pytest.raises(UserError, match=r"metric=map is not a choice: it must be one of acc, f1, auroc"):
        compared("map", A=hits(10), B=hits(10))
    one_class = replace(classified(10, 2), targets=torch.zeros(10).long())
    with pytest.raises(UserError, match=r"metric=auroc has no value on these images in A, B"):
        compared("auroc", A=one_class, B=one_class)


# The images.


def shuffled(found: Predictions, rows: list[int]) -> Predictions:
    at = torch.tensor(rows)
    names = tuple(found.names[row] for row in rows)
    return replace(found, names=names, index=found.index[at], targets=found.targets[at], logits=found.logits[at])


def test_images_are_matched_by_name_in_any_order():
    one = classified(50, 3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0)).tolist()
    matched = match({"A": one, "B": shuffled(one, order)}, {"A": {}, "B": {}})
    assert torch.equal(matched["B"].logits, one.logits)
    assert matched["B"].names == one.names


def test_an_image_that_is_named_twice_is_matched_twice():
    one = replace(classified(3, 3), names=("a", "b", "a"))
    two = shuffled(one, [1, 0, 2])
    assert torch.equal(match({"A": one, "B": two}, {"A": {}, "B": {}})["B"].logits, one.logits)


def test_what_cannot_be_compared_is_refused_with_numbers_and_settings():
    one = classified(20, 3)
    data = {"A": {"split_seed": 0, "root": "x", "batch_size": 8}, "B": {"split_seed": 1, "root": "x", "batch_size": 9}}
    reading = one.reading
    for other, told in (
        (shuffled(one, list(range(2, 20))), r"of 20 in A 2 are not in B, of 18 in B 0 are not in A \(0.jpg, 1.jpg\)"),
        (
            replace(one, names=("new.jpg", *one.names[1:])),
            r"1 are not in B, of 20 in B 1 are not in A \(0.jpg, new.jpg\)",
        ),
        (replace(one, reading=replace(reading, classes=("c0", "c1", "dog"))), r"classes: 2 differ \(c2, dog\)"),
        (replace(one, reading=replace(reading, classes=("c1", "c0", "c2"))), "they are in another order"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            match({"A": one, "B": other}, data)
        assert "theirs differ in data.split_seed." in str(caught.value)
        assert "batch_size" not in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(UserError, match=r"A is a classification and B a multilabel"):
        match({"A": one, "B": labelled(20, 3)}, data)
    with pytest.raises(UserError, match=r"2 of 20 images have another label in B than in A \(0.jpg, 1.jpg\)"):
        match({"A": one, "B": replace(one, targets=torch.cat([(one.targets[:2] + 1) % 3, one.targets[2:]]))}, data)
