"""BitFit: biases move and nothing else of the backbone does."""

import pytest
import torch

from ft.errors import UserError
from ft.fit import fit
from plugins.bitfit import biases


def test_biases_are_what_is_called_bias():
    assert biases(frozenset({"a.bias", "a.weight", "bias", "bias_table"})) == {"a.bias", "bias"}


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_only_biases_and_the_head_move(runs, architecture):
    run = runs.build("plugins=[bitfit]", "optimizer.weight_decay=0.5", architecture=architecture)
    before = {name: value.clone() for name, value in run.module.model.state_dict().items()}
    fit(run, started=0.0)
    moved = {name for name, value in run.module.model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if not name.startswith("head.")} <= biases(frozenset(moved))
    assert len(moved) > 10


def test_other_stages_train_whole(runs):
    run = runs.build("plugins=[bitfit]", "plugins.bitfit.stages=[stem]")
    tensors = run.module.phase_at(0).tensors
    stem, above = run.module.model.stages()[:2]
    assert not tensors.intersection(stem.parameters) - biases(frozenset(stem.parameters))
    assert tensors.issuperset(above.parameters)


def test_an_unknown_stage_is_refused_with_the_list(runs):
    with pytest.raises(UserError, match=r"names 'stage9'; the model's stages are stem, stage1, .* mean stage"):
        runs.build("plugins=[bitfit]", "plugins.bitfit.stages=[stage9]")
