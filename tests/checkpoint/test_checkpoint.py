"""A checkpoint comes back as it was saved, or says what is wrong with it."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ft.checkpoint.keep import KeepCheckpoints
from ft.checkpoint.load import load, load_weights
from ft.checkpoint.manifest import MANIFEST, STATE, WEIGHTS, verify
from ft.checkpoint.save import link, save
from ft.errors import UserError
from ft.fit import fit


def content() -> dict:
    shared = torch.randn(3, 3)
    return {
        "state_dict": {"a": shared, "tied": shared, "turned": shared.t(), "count": torch.tensor(7)},
        "epoch": 4,
        "global_step": 99,
        "loops": {"fit_loop": {"current": {"ready": 2}}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    }


def test_what_is_saved_comes_back(tmp_path):
    saved = content()
    save(saved, tmp_path / "last")
    back = load(tmp_path / "last")
    for name, tensor in saved["state_dict"].items():
        assert torch.equal(back["state_dict"][name], tensor)
    assert back["loops"] == saved["loops"]
    assert torch.equal(back["optimizer_states"][0]["state"][0]["exp_avg"], torch.ones(2))


def test_the_manifest_says_what_was_written(tmp_path):
    save(content(), tmp_path / "last")
    manifest = json.loads((tmp_path / "last" / MANIFEST).read_text())
    assert (manifest["epoch"], manifest["global_step"]) == (4, 99)
    assert set(manifest["files"]) == {WEIGHTS, STATE}
    assert manifest["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_a_newer_one_replaces_it_whole_and_leaves_nothing_behind(tmp_path):
    save(content(), tmp_path / "last")
    save({**content(), "epoch": 5}, tmp_path / "last")
    assert load(tmp_path / "last")["epoch"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "last.1", "last.2"]
    save({**content(), "epoch": 6}, tmp_path / "last")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "last.2", "last.3"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_second_name_is_the_same_checkpoint_until_one_is_replaced(tmp_path, monkeypatch, has_links):
    def refuse(source, target, **options):
        raise OSError("no hard links here")

    if not has_links:
        monkeypatch.setattr("os.link", refuse)
    save(content(), tmp_path / "best")
    save({**content(), "epoch": 1}, tmp_path / "last")
    link(tmp_path / "best", tmp_path / "last")
    assert load(tmp_path / "last")["epoch"] == 4
    assert ((tmp_path / "last" / WEIGHTS).stat().st_nlink == 2) is has_links
    save({**content(), "epoch": 5}, tmp_path / "last")
    assert (load(tmp_path / "best")["epoch"], load(tmp_path / "last")["epoch"]) == (4, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "best.1", "last", "last.2", "last.3"]


@pytest.mark.parametrize("file", [WEIGHTS, STATE])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_named(tmp_path, file, damage):
    save(content(), tmp_path / "last")
    path = tmp_path / "last" / file
    whole = bytearray(path.read_bytes())
    if damage == "flip":
        whole[len(whole) // 2] ^= 1
        path.write_bytes(whole)
    elif damage == "cut":
        path.write_bytes(whole[:-1])
    else:
        path.unlink()
    with pytest.raises(UserError, match=rf"damaged: {file}"):
        load(tmp_path / "last")
    with pytest.raises(UserError, match=rf"damaged: {file}"):
        load_weights(tmp_path / "last", nn.Linear(1, 1))


def test_what_is_no_checkpoint_says_so(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        load(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load(tmp_path)


def test_a_pickle_in_the_state_is_never_executed(tmp_path, capsys):
    class Payload:
        def __reduce__(self):
            return (print, ("executed",))

    save({**content(), "extra": Payload()}, tmp_path / "last")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        load(tmp_path / "last")
    assert "executed" not in capsys.readouterr().out


class FakeTrainer:
    def __init__(self):
        self.callback_metrics = {}
        self.current_epoch = 0
        self.global_step = 7
        self.world_size = 1
        self.saved = []

    def save_checkpoint(self, path, storage_options):
        self.saved.append(path.name)


def kept(tmp_path, values, mode):
    keep, trainer = KeepCheckpoints(tmp_path, metric="val/acc", mode=mode, on_error="stop"), FakeTrainer()
    for trainer.current_epoch, value in enumerate(values):
        trainer.callback_metrics = {} if value is None else {"val/acc": torch.tensor(value)}
        keep.on_train_epoch_end(trainer, SimpleNamespace(validated_at=trainer.global_step))  # pyright: ignore[reportArgumentType]
    return keep, trainer


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ([0.1, 0.3, 0.2], "max", 1),
        ([0.3, 0.1, 0.2], "min", 1),
        ([0.3, 0.3, 0.2], "max", 1),  # of equals, the one trained longer
        ([None, 0.1, None], "max", 1),
        ([float("nan"), 0.1], "max", 1),
        ([0.1, float("nan")], "max", 0),
        ([None], "max", None),
    ],
)
def test_best_is_the_best_and_last_is_written_every_epoch(tmp_path, values, mode, best):
    keep, trainer = kept(tmp_path, values, mode)
    assert keep.best_epoch == best
    assert trainer.saved.count("last") == len(values)


def test_a_resumed_run_knows_its_best(tmp_path):
    keep, _ = kept(tmp_path, [0.1, 0.5], "max")
    again = KeepCheckpoints(tmp_path, metric="val/acc", mode="max", on_error="stop")
    again.load_state_dict(keep.state_dict())
    assert (again.best, again.best_epoch) == (keep.best, 1)


def test_an_epoch_without_validation_never_becomes_the_best(train_run):
    run = train_run("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2")
    assert run.checkpoints.best_epoch == 1
    assert verify(run.folder.best)["epoch"] == 1


def test_what_is_validated_inside_an_epoch_is_kept_as_it_was_validated(build_run):
    run = build_run("+trainer.val_check_interval=3", "trainer.max_epochs=1", "data.num_images=40", "test=false")
    fit(run, started=0.0)
    assert run.trainer.global_step == 5
    assert load(run.folder.best)["global_step"] == 3
    load_weights(run.folder.best, run.module)
    scored = run.module.score(run.loaders.evaluation_loader("val"))
    assert scored["val/loss"] == pytest.approx(run.checkpoints.best_values["val/loss"], rel=1e-5)
