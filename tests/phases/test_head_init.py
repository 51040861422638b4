"""``model.head_init=solved``: training starts at the best linear head, also after a resume, for every task."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from ft.errors import UserError
from ft.fit import fit
from ft.optim.head_solver import solve_linear_head
from tests.conftest import Killed, StopIn, assert_equal_weights, weights_of

ON = "model.head_init=solved"


class Start(Callback):
    """Copies the head before the first step."""

    weight: torch.Tensor | None = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.weight is None:
            self.weight = pl_module.model.head.fc.weight.detach().clone()
            self.step = trainer.global_step


def test_the_first_step_starts_from_the_solution(build_run, pretrained):
    run = build_run(ON, pretrained, "trainer.max_epochs=1", "model.head.drop_rate=0.5")
    model = run.module.model.eval()
    loader = run.loaders.evaluation_loader("train")
    with torch.no_grad():
        pairs = [(model.features(run.module.on_after_batch_transfer(b, 0).images), b.targets) for b in loader]
    features, targets = (torch.cat(each).numpy() for each in zip(*pairs, strict=True))
    model.train()
    start = Start()
    run.trainer.callbacks.append(start)
    fit(run, started=0.0)
    assert start.weight is not None
    logits = features @ start.weight.numpy().T
    wanted = solve_linear_head(features, targets, "classes", num_outputs=4)[0]
    # The images came in another order, and the penalty is chosen on a fifth of them.
    assert np.corrcoef(logits.ravel(), (features @ wanted.T).ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("task", "kind"), [("classification", "classes"), ("multilabel", "labels"), ("regression", "values")]
)
def test_the_loss_before_training_is_below_that_of_a_random_head(build_run, pretrained, task, kind):
    losses = {}
    for init in ("random", "solved"):
        run = build_run(
            f"model.head_init={init}", pretrained, f"task={task}", f"data.kind={kind}",
            "optimizer.lr=1e-9", "trainer.max_epochs=1", "data.num_images=60", "model.open=head",
        )  # fmt: skip
        fit(run, started=0.0)
        losses[init] = run.metrics.rows[0]["train/loss"]
    assert losses["solved"] < 0.9 * losses["random"]


def test_a_resumed_run_does_not_solve_again(build_run, train_run, resume_run, pretrained):
    options = (ON, pretrained, "trainer.max_epochs=3")
    whole = train_run(*options)
    cut = build_run(*options)
    cut.trainer.callbacks.append(StopIn(epoch=1, batch=None))
    with pytest.raises(Killed):
        fit(cut, started=0.0)
    assert_equal_weights(weights_of(whole), weights_of(resume_run(cut)))


@pytest.mark.parametrize("head", ["model.head.hidden=[64]", "model.head.norm=batch"])
def test_a_head_of_several_layers_is_trained_on_the_features(build_run, pretrained, head):
    losses = {}
    for init in ("random", "solved"):
        run = build_run(
            f"model.head_init={init}", pretrained, head, "optimizer.lr=1e-9", "trainer.max_epochs=1",
            "data.num_images=60", "model.open=head",
        )  # fmt: skip
        fit(run, started=0.0)
        losses[init] = run.metrics.rows[0]["train/loss"]
    assert losses["solved"] < 0.9 * losses["random"]


def test_a_way_to_begin_that_does_not_exist_is_refused(build_run):
    message = "model.head_init=ridge is not a choice: it must be one of random, solved"
    with pytest.raises(UserError, match=message):
        build_run("model.head_init=ridge")
