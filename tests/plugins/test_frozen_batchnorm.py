"""Frozen BatchNorm: scales, shifts and statistics stay while the convolutions around them train."""

import pytest
import torch

from ft.errors import UserError
from ft.fit import fit
from plugins.frozen_batchnorm import batchnorm_tensors


def moved_by(run) -> set[str]:
    before = {name: value.clone() for name, value in run.module.model.state_dict().items()}
    fit(run, started=0.0)
    return {name for name, value in run.module.model.state_dict().items() if not torch.equal(value, before[name])}


def test_no_tensor_of_a_batchnorm_moves_and_every_convolution_does(runs):
    run = runs.build("plugins=[frozen_batchnorm]")
    norms = batchnorm_tensors(run.module.model)
    moved = moved_by(run)
    assert len(norms) > 20
    assert not moved & norms
    assert {name for name, value in run.module.model.named_parameters() if value.ndim == 4} <= moved


def test_only_the_named_stages_keep_theirs(runs):
    run = runs.build("plugins=[frozen_batchnorm]", "plugins.frozen_batchnorm.stages=[stem]")
    stem = run.module.model.stages()[0]
    norms = batchnorm_tensors(run.module.model)
    moved = moved_by(run)
    assert not moved & norms & {*stem.parameters, *stem.buffers}
    assert moved & norms


def test_a_new_heads_batchnorm_trains(runs):
    run = runs.build("plugins=[frozen_batchnorm]", "model.head.norm=batch")
    assert "head.norm.running_mean" in run.module.phase_at(0).tensors


def test_a_model_without_batchnorm_is_told_of(runs, capsys):
    runs.build("plugins=[frozen_batchnorm]", architecture="test_vit")
    assert "no BatchNorm there; the plugin changes nothing" in capsys.readouterr().out


def test_an_unknown_stage_is_refused_with_the_list(runs):
    with pytest.raises(UserError, match=r"names 'sten'; the model's stages are stem, .*mean stem"):
        runs.build("plugins=[frozen_batchnorm]", "plugins.frozen_batchnorm.stages=[sten]")
