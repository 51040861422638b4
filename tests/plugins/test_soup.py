"""Greedy soup: the recipe by hand, and that it never keeps worse weights than the best epoch's."""

import pytest
import torch
from safetensors.torch import load_file

from ft.checkpoint.load import load
from ft.errors import UserError
from plugins.soup import greedy, mean_weights

ON = ("plugins=[soup]", "trainer.max_epochs=4", "plugins.soup.keep=3")


def test_the_mean_by_hand_and_counters_from_the_first():
    one = {"w": torch.tensor([1.0]), "n": torch.tensor(3)}
    other = {"w": torch.tensor([2.0]), "n": torch.tensor(9)}
    mean = mean_weights([one, other])
    assert mean["w"] == 1.5
    assert mean["n"] == 3


def test_an_ingredient_that_makes_it_worse_is_left_out():
    scores = {(7,): 0.8, (7, 5): 0.7, (7, 6): 0.8, (7, 6, 2): 0.9}
    assert greedy([7, 5, 6, 2], lambda chosen: scores[tuple(chosen)]) == [7, 6, 2]


def test_the_soup_is_what_is_kept_and_it_is_not_worse(runs):
    run = runs.train(*ON, "optimizer.lr=0.02", "schedule=constant")
    values = [row["val/acc"] for row in run.metrics.rows.values()]
    assert run.checkpoints.best >= max(values)
    files = sorted((run.folder.path / "soup").glob("*.safetensors"))
    assert len(files) == 3
    epochs = {int(file.stem.rpartition("_")[2]) for file in files}
    assert min(values[epoch] for epoch in epochs) >= max(
        (value for epoch, value in enumerate(values) if epoch not in epochs), default=0
    )
    weight = "backbone.layer1.0.conv1.weight"
    kept = load(run.folder.best)["state_dict"][f"model.{weight}"]
    singles = [load_file(file)[weight] for file in files]
    means = [
        torch.stack([single for at, single in enumerate(singles) if number >> at & 1]).mean(0)
        for number in range(1, 2 ** len(singles))
    ]
    assert any(torch.allclose(kept, mean, atol=1e-7) for mean in means)


def test_a_soup_of_equal_epochs_takes_them_all(runs, capsys):
    """A rate of nothing: every epoch is as good as the others, so all are averaged, and the best weights change."""
    run = runs.train(*ON, "optimizer.lr=1e-9", "optimizer.weight_decay=0")
    shown = capsys.readouterr().out
    assert "soup: the mean of epochs" in shown
    assert run.checkpoints.best_values["val/acc"] == run.checkpoints.best
    assert "val/loss" in run.checkpoints.best_values


def test_no_candidate_is_refused(runs):
    with pytest.raises(UserError, match=r"soup.keep must be at least 1, got 0"):
        runs.build("plugins=[soup]", "plugins.soup.keep=0")


def test_a_finished_run_that_is_resumed_still_knows_its_soup(runs):
    from ft.build.run import build
    from ft.fit import fit
    from tests.conftest import composed

    run = runs.train(*ON, "optimizer.lr=0.003", "schedule=constant")
    with composed(f"resume='{run.folder.path}'") as config:
        again = build(config)
    fit(again, started=0.0)
    assert again.checkpoints.best_values == run.checkpoints.best_values


def test_only_validated_epochs_are_candidates(runs):
    run = runs.train(*ON, "trainer.check_val_every_n_epoch=2")
    assert set(run.module.plugins[0].values) == {1, 3}


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_epoch_is_left_out_and_named(runs, capsys, damage):
    run = runs.train(*ON, "optimizer.lr=1e-9", "optimizer.weight_decay=0")
    (soup,), trainer = run.module.plugins, run.trainer
    first, *others = candidates = soup._sound(trainer)
    assert len(candidates) == 3
    file = run.folder.path / "soup" / f"epoch_{first}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    if damage == "flipped":
        file.write_bytes(content)
    capsys.readouterr()
    assert soup._sound(trainer) == others
    assert f"{file} is damaged or missing" in capsys.readouterr().out
