"""SWA: the mean by hand, its BatchNorm, and what checkpoints hold."""

import pytest
import torch
from lightning.pytorch import Callback

from ft.checkpoint.evaluated_weights import TRAINED
from ft.checkpoint.load import load
from ft.data.transforms import normalize
from ft.errors import UserError
from plugins.swa import first_epoch

ON = ("plugins=[swa]", "plugins.swa.start=0.5", "trainer.max_epochs=4")


class Ends(Callback):
    """Copies the weights at the end of every epoch, before validation."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.is_last_batch:
            self.weights.append(pl_module.model.get_parameter("backbone.layer1.0.conv1.weight").detach().clone())


def test_averaging_begins_after_its_share_of_the_epochs():
    assert [first_epoch(start=start, max_epochs=8) for start in (0, 0.5, 0.75, 1)] == [0, 4, 6, 8]


def test_a_checkpoint_holds_the_mean_of_the_last_epochs_and_the_run_goes_on_without_it(runs):
    ends = Ends()
    run = runs.train(*ON, watch=ends)
    kept = load(run.folder.last)
    name = "backbone.layer1.0.conv1.weight"
    assert torch.allclose(kept["state_dict"][f"model.{name}"], (ends.weights[2] + ends.weights[3]) / 2, atol=1e-7)
    assert torch.equal(kept[TRAINED][name], ends.weights[3])
    assert torch.equal(run.module.model.get_parameter(name), ends.weights[3]) or run.folder.best.is_dir()


def test_statistics_are_those_of_the_mean_weights(runs):
    run = runs.train(*ON, "plugins.swa.num_images=12")
    kept = load(run.folder.last)["state_dict"]
    model = run.module.model
    model.load_state_dict({name.removeprefix("model."): value for name, value in kept.items()})
    seen = []
    model.backbone.conv1[0].register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        for batch in run.loaders.sample_loader("train", 12):
            model.eval()(normalize(batch.images, model.input_spec))
    wanted = torch.stack([output.mean((0, 2, 3)) for output in seen]).mean(0)
    assert len(seen) == 2
    assert torch.allclose(kept["model.backbone.conv1.1.running_mean"], wanted, atol=1e-5)


def test_frozen_statistics_stay(runs):
    run = runs.train(*ON, "model.open=[stage4,head]")
    fresh = runs.build().module.model.state_dict()
    kept = load(run.folder.last)["state_dict"]
    assert torch.equal(kept["model.backbone.layer1.0.bn1.running_mean"], fresh["backbone.layer1.0.bn1.running_mean"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("plugins.swa.start=1.5", r"start must be in \[0, 1\], got 1.5"),
        ("plugins.swa.num_images=0", "num_images must be at least 1"),
        ("trainer.max_epochs=-1", "starts after a share of the epochs: set trainer.max_epochs"),
    ],
)
def test_what_cannot_be_is_refused(runs, override, message):
    with pytest.raises(UserError, match=message):
        runs.build(*ON, override, *(["schedule=constant"] if "epochs=-1" in override else []))


def resumed(run, *overrides):
    from ft.build.run import build
    from ft.fit import fit
    from tests.conftest import composed

    with composed(f"resume='{run.folder.path}'", *overrides) as config:
        again = build(config)
    fit(again, started=0.0)
    return again


def test_a_run_that_goes_on_for_longer_averages_anew(runs):
    """With more epochs averaging begins later: until then the weights themselves are evaluated and kept."""
    run = runs.train("plugins=[swa]", "plugins.swa.start=0.5", "trainer.max_epochs=2")
    assert TRAINED in load(run.folder.last)
    again = resumed(run, "trainer.max_epochs=3", "+plugins.swa.start=1.0")
    assert TRAINED not in load(again.folder.last)


def test_a_last_batch_of_one_image_has_no_statistics(runs):
    run = runs.train(*ON, "plugins.swa.num_images=7")
    assert TRAINED in load(run.folder.last)
