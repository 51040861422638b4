"""Five things about unfreezing that well-known implementations get wrong, each as a promise.

``tests/benchmarks/five_truths.py`` runs the same five against two of them; ``tests/plugins/test_two_processes.py``
holds the first one with two real processes.
"""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy

from ft.checkpoint.load import load
from ft.errors import UserError
from ft.fit import fit
from tests.conftest import assert_equal_weights, weights_of
from tests.plugins.conftest import Diary

GRADUAL = (
    "plugins=[gradual_unfreezing]",
    "trainer.max_epochs=4",
    "plugins.gradual_unfreezing.schedule=[{epoch:0,open:[head]},{epoch:1,open:[stage4,head]},{epoch:3,open:all}]",
)


def test_1_nothing_is_frozen_when_ddp_wraps_the_model(runs):
    """What is frozen then is left out of the reducer: after unfreezing every process would train its own."""

    class AtWrapping(Callback):
        frozen: list[str] | None = None

        def on_fit_start(self, trainer, pl_module):  # DDP has just wrapped it
            self.frozen = [name for name, p in pl_module.named_parameters() if not p.requires_grad]

    watch = AtWrapping()
    run = runs.train(*GRADUAL, watch=watch)
    assert watch.frozen == []
    assert run.module.phase_at(0).stages == {"head"}
    strategy = runs.build(*GRADUAL, "trainer=ddp", "trainer.accelerator=cpu").trainer.strategy
    assert isinstance(strategy, DDPStrategy)
    assert strategy._ddp_kwargs["find_unused_parameters"], "a flag of the constructor: it holds for the whole run"


@pytest.mark.parametrize("batch", [pytest.param(None, marks=pytest.mark.full), 1])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_2_what_is_open_after_resuming_is_what_would_have_been(runs, whole_run, epoch, batch):
    whole, written = whole_run(*GRADUAL)
    diary = Diary()
    again = runs.cut_and_resume(*GRADUAL, epoch=epoch, batch=batch, watch=diary)
    assert {at: written.lines[at] for at in diary.lines} == diary.lines
    assert min(diary.lines)[0] == epoch
    assert_equal_weights(weights_of(whole), weights_of(again))


def test_3_the_optimizer_holds_everything_from_the_start_and_moves_only_what_is_open(runs):
    run = runs.build(*GRADUAL, "optimizer=adamw", "optimizer.weight_decay=0.5")
    before = {name: value.clone() for name, value in run.module.model.state_dict().items()}
    seen = {}

    class AtEpochEnd(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            listed = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
            assert listed == {id(p) for p in pl_module.model.parameters()}
            state = pl_module.model.state_dict()
            stages = pl_module.model.stages()
            seen[trainer.current_epoch] = {
                stage.name
                for stage in stages
                for name in (*stage.parameters, *stage.buffers)
                if not torch.equal(state[name], before[name])
            }
            frozen = [p for p in pl_module.model.parameters() if not p.requires_grad]
            assert all(p.grad is None for p in frozen)

    run.trainer.callbacks.append(AtEpochEnd())
    fit(run, started=0.0)
    everything = set(run.module.stage_names)
    assert seen == {0: {"head"}, 1: {"stage4", "head"}, 2: {"stage4", "head"}, 3: everything}
    groups = load(run.folder.last)["optimizer_states"][0]["param_groups"]
    assert len({len(groups), len(run.module.trainer.optimizers[0].param_groups)}) == 1


def test_4_a_frozen_backbone_computes_in_training_what_it_computes_in_evaluation(runs):
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    equal = []

    class InTraining(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            pl_module.train()  # as anybody may call it, at any time
            model = pl_module.model
            with torch.no_grad():
                now = model.features(images)
                modes = [(part, part.training) for part in model.modules()]
                then = model.eval().features(images)
                for part, mode in modes:
                    part.training = mode
            equal.append((trainer.current_epoch, torch.equal(now, then)))

    runs.train(*GRADUAL, "+model.kwargs.drop_rate=0.3", watch=InTraining())
    assert set(equal) == {(0, True), (1, False), (2, False), (3, False)}


def test_5_what_timm_does_not_build_is_told_and_what_it_scales_is_scaled(runs):
    """No DropPath exists at rate 0, and torch's schedulers know no ``lr_scale``."""
    with pytest.raises(UserError, match=r"drop_path.*model\.drop_path_rate"):
        runs.build("plugins=[dropout_tuning]", "plugins.dropout_tuning.where=[drop_path]", architecture="test_vit")
    diary = Diary()
    options = ("plugins=[layer_decay]", "plugins.layer_decay.decay=0.1", "schedule=constant", "optimizer.lr=0.5")
    run = runs.train(*options, "trainer.max_epochs=1", watch=diary)
    groups = run.trainer.optimizers[0].param_groups
    rates = diary.lines[0, 1][1]
    assert rates == pytest.approx([0.5 * group["lr_scale"] for group in groups])
    assert min(rates) < 1e-4
