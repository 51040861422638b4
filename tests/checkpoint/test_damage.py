"""No bit of a checkpoint changes unnoticed; what is damaged is named, and a run goes on from the one before."""

import json
import random
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from ft.build.evaluation import build_evaluation
from ft.build.trained import load_predictor
from ft.checkpoint.generations import numbered, recover
from ft.checkpoint.load import load, load_model_weights, load_weights, read_weights
from ft.checkpoint.manifest import MANIFEST, STATE, WEIGHTS, Damaged, hash_of, rendered, verify
from ft.checkpoint.save import save
from ft.errors import UserError
from ft.fit import fit
from tests.conftest import Killed, StopIn, assert_equal_weights, composed, weights_of

READERS = (
    load,
    read_weights,
    verify,
    lambda folder: load_weights(folder, nn.Linear(1, 1)),
    lambda folder: load_model_weights(folder, nn.Linear(1, 1)),
    lambda folder: recover(folder, repair=False),
)


def content(epoch: int = 4) -> dict:
    return {
        "state_dict": {"weight": torch.randn(7, 3), "bias": torch.randn(7)},
        "epoch": epoch,
        "global_step": 99,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    }


def damage(file: Path, chance: random.Random) -> str:
    """Flips a bit, or cuts the end off; what it did."""
    found = bytearray(file.read_bytes())
    if chance.random() < 0.2:
        length = chance.randrange(len(found))
        file.write_bytes(found[:length])
        return f"cut to {length}"
    at, bit = chance.randrange(len(found)), chance.randrange(8)
    found[at] ^= 1 << bit
    file.write_bytes(found)
    return f"bit {bit} of byte {at}"


@pytest.mark.parametrize("times", [200, pytest.param(5000, marks=pytest.mark.soak)])
def test_no_flipped_bit_and_no_cut_is_silent(tmp_path, times):
    folder = tmp_path / "last"
    save(content(), folder, config={"seed": 0})
    kept = {name: (folder / name).read_bytes() for name in (WEIGHTS, STATE, MANIFEST)}
    chance = random.Random(times)
    for at in range(times):
        name = chance.choice([*kept])
        done = damage(folder / name, chance)
        with pytest.raises(UserError, match=f"is damaged: {name}") as caught:
            READERS[at % len(READERS)](folder)
        assert caught.value.args, done
        (folder / name).write_bytes(kept[name])
    assert load(folder)["epoch"] == 4


@pytest.mark.parametrize("every", [37, pytest.param(1, marks=pytest.mark.soak)])
def test_no_bit_of_a_manifest_is_silent(tmp_path, every):
    folder = tmp_path / "last"
    save(content(), folder)
    kept = (folder / MANIFEST).read_bytes()
    for bit in range(0, 8 * len(kept), every):
        found = bytearray(kept)
        found[bit // 8] ^= 1 << bit % 8
        (folder / MANIFEST).write_bytes(found)
        with pytest.raises(Damaged, match=f"damaged: {MANIFEST}"):
            verify(folder)


def test_a_manifest_that_was_changed_and_sealed_again_still_names_two_files_and_no_path(tmp_path):
    from ft.checkpoint.manifest import sealed

    folder = tmp_path / "last"
    save(content(), folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    for files in ({}, {**manifest["files"], "../elsewhere": manifest["files"][STATE]}, {WEIGHTS: 1, STATE: 2}, None):
        (folder / MANIFEST).write_bytes(rendered(sealed({**manifest, "files": files})))
        with pytest.raises(Damaged, match="does not list"):
            load(folder)


def test_a_checkpoint_of_an_older_run_is_read(tmp_path):
    folder = tmp_path / "last"
    save(content(), folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    older = {key: manifest[key] for key in ("files", "epoch", "global_step", "versions")} | {"format": 1}
    (folder / MANIFEST).write_text(json.dumps(older, indent=2))
    assert load(folder)["epoch"] == 4
    (folder / STATE).write_bytes(b"")
    with pytest.raises(Damaged, match=STATE):
        load(folder)


@pytest.mark.parametrize("file", [STATE, *(pytest.param(name, marks=pytest.mark.full) for name in (WEIGHTS, MANIFEST))])
def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(
    build_run, train_run, resume_run, capsys, file
):
    options = ("trainer.max_epochs=3", "model.head.drop_rate=0.3")
    whole = train_run(*options)
    cut = build_run(*options)
    cut.trainer.callbacks.append(StopIn(epoch=2, batch=None))
    with pytest.raises(Killed):
        fit(cut, started=0.0)
    newest = numbered(cut.folder.checkpoints / "last")[2]
    damage(newest / file, random.Random(1))
    capsys.readouterr()
    again = resume_run(cut)
    told = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line or "going on" in line]
    assert re.fullmatch(rf"the checkpoint \S+last\.2 is damaged: {file} .*sha256 [0-9a-f]{{16}}.*", told[0])
    assert re.fullmatch(r"going on from \S+last\.1, which is whole: epoch 0", told[1])
    assert_equal_weights(weights_of(whole), weights_of(again))
    files = [run.folder.path / "metrics.csv" for run in (whole, again)]
    assert files[0].read_text() == files[1].read_text()
    # The damaged one is gone, and two that are whole are kept.
    assert [verify(path)["epoch"] for path in numbered(again.folder.checkpoints / "last").values()] == [2, 1]


@pytest.mark.full
def test_without_a_whole_checkpoint_there_is_nothing_to_go_on_from(train_run, resume_run):
    run = train_run()
    for folder in numbered(run.folder.checkpoints / "last").values():
        (folder / STATE).write_bytes(b"")
    with pytest.raises(UserError, match=r"(?s)last\.2 is damaged.*last\.1 is damaged.*no other checkpoint to go on"):
        resume_run(run, "trainer.max_epochs=3")


@pytest.mark.full
def test_a_name_that_leads_nowhere_is_found_by_its_numbers(train_run, resume_run):
    run = train_run()
    (run.folder.checkpoints / "last").unlink()  # a copy that left links out
    assert run.folder.last.name == "last.2"
    again = resume_run(run, "trainer.max_epochs=3")
    assert verify(run.folder.checkpoints / "last")["epoch"] == 2
    assert again.metrics.rows.keys() == {0, 1, 2}


def test_a_damaged_best_is_refused_wherever_it_is_read_and_a_resumed_run_replaces_it(
    train_run, resume_run, tmp_path, capsys
):
    run = train_run()
    name = WEIGHTS
    damage(run.folder.best / name, random.Random(0))
    hashes = rf"best is damaged: {name} has sha256 [0-9a-f]{{16}} .* written were [0-9a-f]{{16}}"
    beside = r"last is whole \(epoch 1\): resume=RUN"
    with pytest.raises(Damaged, match=rf"(?s){hashes}.*{beside}"):
        load_predictor(run.folder)
    with (
        composed(f"run='{run.folder.path}'", "accelerator=cpu", config="evaluate") as config,
        pytest.raises(Damaged, match=rf"(?s){hashes}.*{beside}"),
    ):
        build_evaluation(config)
    capsys.readouterr()
    again = resume_run(run, "trainer.max_epochs=3")
    assert "The next epoch that is validated takes its place." in capsys.readouterr().out
    assert verify(run.folder.best)["epoch"] == again.checkpoints.best_epoch == 2


def test_a_manifest_says_what_config_it_is_of_and_what_came_before(train_run, resume_run):
    run = train_run()
    best, first, second = (
        verify(run.folder.best),
        *(verify(numbered(run.folder.checkpoints / "last")[number]) for number in (1, 2)),
    )
    assert first["config"] == best["config"] == hash_of(OmegaConf.to_container(OmegaConf.load(run.folder.config)))
    assert first["parent"] is None
    assert second["parent"] == first["sha256"]
    assert best["parent"] == (first["parent"] if best["epoch"] == 0 else first["sha256"])
    again = resume_run(run, "trainer.max_epochs=3")
    third = verify(again.folder.last)
    assert third["parent"] == second["sha256"]
    assert third["config"] != second["config"]
    assert third.keys() >= {"format", "files", "epoch", "global_step", "written", "versions", "config", "parent"}
