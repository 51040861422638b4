"""EMA: the average by hand, and which weights are evaluated, kept and trained."""

import pytest
import torch
from lightning.pytorch import Callback

from ft.checkpoint.evaluated_weights import TRAINED, EvaluatedWeights
from ft.checkpoint.load import load
from ft.errors import UserError
from plugins.ema import decay_at

NAME = "backbone.layer1.0.conv1.weight"


class Steps(Callback):
    """Copies a weight after every optimizer step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.weights):
            self.weights.append(pl_module.model.get_parameter(NAME).detach().clone())


def test_the_decay_rises_to_its_value():
    assert [decay_at(step, decay=0.9, warmup=True) for step in (1, 8, 1000)] == [2 / 11, 0.5, 0.9]
    assert decay_at(1, decay=0.9, warmup=False) == 0.9


def test_updates_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    weights = EvaluatedWeights()
    for value in (1.0, 3.0):
        torch.nn.init.constant_(model.weight, value)
        weights.update(model, 0.25)
    assert weights.average["weight"] == 1.5
    weights.swap_in(model)
    assert model.weight == 1.5
    weights.swap_out(model)
    assert model.weight == 3.0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_checkpoint_holds_the_average_over_optimizer_steps(runs, accumulate):
    steps = Steps()
    run = runs.train(
        "plugins=[ema]",
        "plugins.ema.decay=0.8",
        "plugins.ema.warmup=false",
        f"trainer.accumulate_grad_batches={accumulate}",
        watch=steps,
    )
    average = steps.weights[0]
    for weight in steps.weights[1:]:
        average = 0.8 * average + 0.2 * weight
    kept = load(run.folder.last)
    assert len(steps.weights) == run.trainer.global_step
    assert torch.allclose(kept["state_dict"][f"model.{NAME}"], average, atol=1e-6)
    assert torch.equal(kept[TRAINED][NAME], steps.weights[-1])


@pytest.mark.parametrize("value", ["1", "-0.1"])
def test_a_decay_outside_its_range_is_refused(runs, value):
    with pytest.raises(UserError, match=r"ema.decay must be in \[0, 1\)"):
        runs.build("plugins=[ema]", f"plugins.ema.decay={value}")


def test_two_averages_are_refused_by_name(runs):
    with pytest.raises(UserError, match="plugins ema and swa do not go together: each averages the weights"):
        runs.build("plugins=[ema,swa]")


def test_a_run_that_goes_on_without_an_average_evaluates_its_weights(runs):
    from ft.build.run import build
    from ft.fit import fit
    from tests.conftest import composed

    run = runs.train("plugins=[ema]")
    with composed(f"resume='{run.folder.path}'", "trainer.max_epochs=3", "+plugins.ema.decay=0.0") as config:
        again = build(config)
    fit(again, started=0.0)
    assert TRAINED not in load(again.folder.last)
