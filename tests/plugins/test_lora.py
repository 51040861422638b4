"""LoRA: adapters train, the layers beneath them do not, and merged they are the plain model again."""

import pytest
import torch

from ft.errors import UserError
from ft.fit import fit
from ft.plugin import fold

pytest.importorskip("peft", reason="the extra lora is not installed")


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_adapters_and_the_head_move_and_nothing_else_does(runs, architecture):
    run = runs.build("plugins=[lora]", architecture=architecture)
    before = {name: value.clone() for name, value in run.module.model.state_dict().items()}
    fit(run, started=0.0)
    moved = {name for name, value in run.module.model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if ".lora_" not in name} == {"head.fc.weight", "head.fc.bias"}
    assert sum(".lora_B" in name for name in moved) > 5


def test_it_starts_as_the_pretrained_model(runs):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = runs.build().module.model.eval()
    adapted = runs.build("plugins=[lora]").module.model.eval()
    assert torch.equal(plain.features(images), adapted.features(images))


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_merged_it_is_a_plain_model_that_computes_the_same(runs, architecture):
    run = runs.train("plugins=[lora]", "optimizer.lr=0.01", architecture=architecture)
    model = run.module.model.eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        adapted = model(images)
        merged = fold(run.module.plugins[::-1], "export_model", model)
        again = merged(images)
    plain = runs.build(architecture=architecture).module.model
    plain.load_state_dict(merged.state_dict())
    assert torch.allclose(adapted, again, atol=1e-4)
    assert (adapted - plain.eval()(images)).abs().max() < 1e-4


def test_a_run_with_adapters_can_be_evaluated(runs):
    from ft.build.evaluation import build_evaluation
    from tests.conftest import composed

    run = runs.train("plugins=[lora]")
    with composed(f"run='{run.folder.path}'", "split=val", config="evaluate") as config:
        evaluation = build_evaluation(config)
    found = evaluation.trainer.test(evaluation.module, evaluation.loader, verbose=False)[0]
    assert found["test/acc"] == pytest.approx(run.checkpoints.best)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rank=-1", "rank must be at least 0, got -1"),
        ("scale=0", "scale must be above 0"),
        ("drop_rate=1", r"drop_rate must be in \[0, 1\)"),
        ("layers=[norm]", "layers must be a list out of linear, conv"),
        ("layers=[linear]", r"layers=\['linear'\]: the backbone has no such layer"),
    ],
)
def test_what_cannot_be_is_refused(runs, override, message):
    with pytest.raises(UserError, match=message):
        runs.build("plugins=[lora]", f"plugins.lora.{override}")
