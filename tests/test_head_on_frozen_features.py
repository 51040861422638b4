"""Full-batch optimizers through the whole path: frozen backbone, features computed once, scikit-learn's own minimum."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from ft.build.run import build
from ft.fit import fit
from tests.conftest import composed

C, NUM_IMAGES = 0.1, 300


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Digits on the pretrained default backbone, the head alone open."""

    def make(optimizer: str, epochs: int, *more: str):
        folder = tmp_path_factory.mktemp(optimizer)
        options = ["model.open=head", f"optimizer={optimizer}", f"optimizer.weight_decay={1 / (C * NUM_IMAGES)}"]
        options += ["schedule=constant", f"trainer.max_epochs={epochs}", f"trainer.check_val_every_n_epoch={epochs}"]
        options += [f"data.limit={NUM_IMAGES}", "model.img_size=32", "test=false", "trainer.accelerator=cpu", *more]
        with composed(f"runs_dir={folder}", *options) as config:
            run = build(config)
        calls = count_calls(run.module.model.backbone)
        fit(run, started=0.0)
        return run, calls

    return make


def count_calls(backbone) -> list[int]:
    """How many images went through the backbone in training's frozen forward, which is without gradients."""
    calls: list[int] = []
    backbone.register_forward_hook(lambda module, inputs, _: calls.append(len(inputs[0])))
    return calls


def features_and_targets(run):
    model = run.module.model.eval()
    with torch.no_grad():
        batches = [run.module.on_after_batch_transfer(b, 0) for b in run.loaders.evaluation_loader("train")]
        return torch.cat([model.features(b.images) for b in batches]), torch.cat([b.targets for b in batches])


def objective(logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> float:
    decay = 1 / (C * NUM_IMAGES)
    return float(F.cross_entropy(logits.double(), targets) + 0.5 * decay * weight.double().square().sum())


@pytest.mark.full
@pytest.mark.parametrize("optimizer", ["cg", "lbfgs"])
def test_the_head_reaches_the_loss_of_scikit_learn(train, optimizer):
    run, _ = train(optimizer, 15)
    features, targets = features_and_targets(run)
    reference = LogisticRegression(C=C, tol=1e-10, max_iter=20_000).fit(features.double().numpy(), targets.numpy())
    best = objective(
        torch.tensor(reference.decision_function(features.double().numpy())), targets, torch.tensor(reference.coef_)
    )
    head = run.module.model.head
    with torch.no_grad():
        ours = objective(head(features), targets, head.fc.weight)
    assert ours == pytest.approx(best, rel=1e-3)
    assert np.isfinite(best)


def test_features_are_computed_once(train):
    run, calls = train("cg", 3)
    validation = len(run.data.splits["val"].targets)
    assert sum(calls) == NUM_IMAGES + validation
    assert run.trainer.global_step == 3


@pytest.mark.full
def test_gradient_descent_goes_down(train):
    run, _ = train("gd", 30, "optimizer.lr=2e-3")
    losses = [row["train/loss"] for _, row in sorted(run.metrics.rows.items())]
    assert all(later < earlier for earlier, later in pairwise(losses))
