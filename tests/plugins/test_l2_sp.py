"""L2-SP: the penalty by hand, and that it pulls towards the pretrained weights even after a resume."""

import pytest
import torch

from ft.checkpoint.load import load
from ft.errors import UserError
from plugins.l2_sp import penalty


def test_the_penalty_by_hand():
    weights = {"body": torch.tensor([3.0, 1.0]), "head": torch.tensor([2.0])}
    start = {"body": torch.tensor([1.0, 1.0])}
    # 0.1/2 * (2^2 + 0) + 0.5/2 * 2^2
    assert penalty(weights, start, alpha=0.1, beta=0.5) == pytest.approx(0.2 + 1.0)


def distance(run, start) -> float:
    return sum(
        float((value.detach() - start[name]).square().sum())
        for name, value in run.module.model.named_parameters()
        if name in start
    )


def test_a_stronger_pull_ends_nearer_to_the_pretrained_weights(runs):
    ends = {}
    for alpha in (0.0001, 10.0):
        run = runs.train("plugins=[l2_sp]", f"plugins.l2_sp.alpha={alpha}", "optimizer=sgd", "optimizer.lr=0.01")
        ends[alpha] = distance(run, load(run.folder.last)["callbacks"]["plugins.l2_sp"]["start"])
    assert 0 < ends[10.0] < 0.9 * ends[0.0001]


def test_a_resumed_run_is_pulled_to_where_the_first_one_started(runs):
    run = runs.build("plugins=[l2_sp]")
    pretrained = run.module.model.get_parameter("backbone.layer1.0.conv1.weight").detach().clone()
    again = runs.cut_and_resume("plugins=[l2_sp]", epoch=1, batch=None, watch=run.trainer.callbacks[0])
    start = again.module.plugins[0].start
    assert torch.equal(start["backbone.layer1.0.conv1.weight"], pretrained)
    assert not any(name.startswith("head.") for name in start)


def test_a_negative_strength_is_refused(runs):
    with pytest.raises(UserError, match=r"l2_sp.alpha must be at least 0, got -1"):
        runs.build("plugins=[l2_sp]", "plugins.l2_sp.alpha=-1")
