"""Linear probing: the head alone, for ever or for some epochs."""

import pytest
import torch

from ft.errors import UserError
from ft.fit import fit
from plugins.linear_probe import is_probing


def test_the_backbone_opens_in_its_epoch_or_never():
    assert [is_probing(epoch, until_epoch=2) for epoch in range(4)] == [True, True, False, False]
    assert is_probing(999, until_epoch=None)


def test_the_backbone_stays_bit_for_bit_its_statistics_too(runs):
    run = runs.build("plugins=[linear_probe]")
    before = {name: value.clone() for name, value in run.module.model.backbone.state_dict().items()}
    head = run.module.model.head.fc.weight.detach().clone()
    fit(run, started=0.0)
    for name, value in run.module.model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not torch.equal(head, run.module.model.head.fc.weight)


def test_lp_ft_trains_everything_afterwards(runs):
    run = runs.train("plugins=[linear_probe]", "plugins.linear_probe.until_epoch=1")
    assert run.module.phase_at(0).stages == {"head"}
    assert run.module.phase.stages == set(run.module.stage_names)


@pytest.mark.parametrize(
    ("override", "message"),
    [("-1", "must be null or at least 0, got -1"), ("2", "until_epoch=2 is never reached: trainer.max_epochs=2")],
)
def test_an_epoch_that_is_no_epoch_is_refused(runs, override, message):
    with pytest.raises(UserError, match=message):
        runs.build("plugins=[linear_probe]", f"plugins.linear_probe.until_epoch={override}")
