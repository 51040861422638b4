"""A save that is cut off anywhere leaves the checkpoint before, whole; so does one that the system refuses."""

import errno
import json
import os
import resource
import shutil
import tempfile
from itertools import count
from pathlib import Path

import pytest
import torch

from ft.checkpoint import lightning_io
from ft.checkpoint.fsdp import Fsdp
from ft.checkpoint.generations import current, numbered, recover
from ft.checkpoint.lightning_io import FolderCheckpointIO
from ft.checkpoint.load import load
from ft.checkpoint.manifest import WEIGHTS, verify
from ft.checkpoint.not_written import NotWritten
from ft.checkpoint.save import link, save
from ft.errors import UserError
from ft.fit import fit
from tests.conftest import assert_equal_weights, weights_of
from tests.file_changes import before_changes, forked, killed, moments, torn_writes

# What is there before, and what is saved over it.
CASES = ("the first", "the second", "the third", "over a folder of an older run", "a link to best", "in parts")


def content(epoch: int, size: int = 50) -> dict:
    weights = torch.full((size,), float(epoch))
    return {"state_dict": {"w": weights}, "epoch": epoch, "global_step": epoch, "optimizer_states": [weights.clone()]}


def before(case: str, target: Path) -> None:
    """Epochs 1, 2, ... are there."""
    if case == "over a folder of an older run":
        save(content(1), target.with_name("other"))
        numbered(target.with_name("other"))[1].rename(target)
        target.with_name("other").unlink()
    else:
        for epoch in range(1, {"the first": 1, "the second": 2}.get(case, 3)):
            save(content(epoch), target)
    if case == "a link to best":
        save(content(9), target.with_name("best"))


def cut_off(case: str, target: Path) -> None:
    """What is cut off: saves epoch 9."""
    if case == "a link to best":
        link(target.with_name("best"), target)
    elif case == "in parts":
        strategy = Fsdp()
        strategy.checkpoint_io = FolderCheckpointIO({})
        strategy.save_checkpoint(content(9), target)
    else:
        save(content(9), target)


def whole(target: Path) -> list[int]:
    """The epochs of all checkpoints that can be loaded; a finished name never holds half of one."""
    folders = {path.resolve() for path in (current(target), *numbered(target).values()) if path.exists()}
    return sorted(verify(folder)["epoch"] for folder in folders)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills lose nothing that was written; that files are flushed, and when, is counted all the same."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def other_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder for temporary files, in memory where there is such a place; nothing is in it afterwards."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        if Path(folder).is_relative_to(shared):
            assert os.stat(folder).st_dev != tmp_path.stat().st_dev or tmp_path.is_relative_to(shared)
        yield
        assert os.listdir(folder) == []


def check_what_a_kill_left(case: str, target: Path, had: list[int]) -> None:
    """None is lost before the new one is there, no half of one is found, and the next saves clean up."""
    found = whole(target)
    assert set(found) >= set(had) or (9 in found and len(found) == 2)
    if had or found:
        assert verify(recover(target, repair=True))["epoch"] in (*had[-1:], 9)
        assert verify(target)["epoch"] in (*had[-1:], 9)
    else:
        with pytest.raises(UserError, match="is not a checkpoint"):
            recover(target, repair=True)
    save(content(10), target)
    save(content(11), target)
    assert whole(target) == [10, 11]
    assert load(target)["epoch"] == 11
    (keep, newest) = sorted(numbered(target))
    there = {"last", f"last.{keep}", f"last.{newest}"} | ({"best", "best.1"} if case == "a link to best" else set())
    assert {path.name for path in target.parent.iterdir()} == there


@pytest.mark.parametrize("case", CASES)
def test_as_a_kill_before_any_change_of_a_file_leaves_it_the_checkpoint_before_is_whole(
    tmp_path, other_file_system, case
):
    target = tmp_path / "run" / "last"
    target.parent.mkdir()
    before(case, target)
    had = whole(target)
    copies = moments(lambda: cut_off(case, target), target.parent, tmp_path / "copies")
    assert len(copies) > 15
    for copy in copies:
        check_what_a_kill_left(case, copy / "last", had)
    assert sum(9 in whole(copy / "last") for copy in copies) < len(copies)


@pytest.mark.full
def test_killed_before_any_change_of_a_file_the_checkpoint_before_is_whole(tmp_path, other_file_system):
    """The same by real kills."""
    at = 0
    for at in count(1):
        target = tmp_path / str(at) / "last"
        before("the third", target)
        came_so_far = killed(lambda target=target: cut_off("the third", target), tmp_path, at=at)
        check_what_a_kill_left("the third", target, [1, 2])
        if not came_so_far:
            break
    assert at > 15


def refuse_each_change(case: str, below: Path) -> None:
    """In a child: what is cut off is refused from some change on, for all codes and all changes."""
    state = {"code": 0, "left": 0}

    def refuse(event: str, path: str) -> None:
        state["left"] -= 1
        removes = event in ("os.remove", "os.rmdir") or path.endswith(".old")
        if state["code"] and state["left"] <= 0 and event != "torn" and not (removes and state["code"] != errno.EROFS):
            raise OSError(state["code"], os.strerror(state["code"]), path)

    before_changes(f"{below}{os.sep}", refuse)
    torn_writes(refuse)
    for code in (errno.ENOSPC, errno.EROFS):
        at = 0
        for at in count(1):
            target = below / f"{code}_{at}" / "last"
            before(case, target)
            had, names = whole(target), {path.name for path in target.parent.glob("[!.]*")}
            state.update(code=code, left=at)
            told = ""
            try:
                cut_off(case, target)
            except NotWritten as error:
                told = str(error)
            completed = state["left"] > 0
            state["code"] = 0
            if told:
                assert "\n" not in told
                assert told.startswith(f"{target} cannot be written: {os.strerror(code)} ("), told
                assert "bytes needed" in told
                # What has become read-only cannot be taken back: the new one may stay, whole.
                assert whole(target) == had or (code == errno.EROFS and whole(target) == [*had, 9]), (code, at)
                assert not had or verify(current(target))["epoch"] in (had[-1], *whole(target)[len(had) :]), (code, at)
                after = {path.name for path in target.parent.glob("[!.]*")}
                assert code == errno.EROFS or after in (names, {"last.1"}), (code, at, after)
            else:
                assert 9 in whole(target), (code, at)
            hidden = [path.name for path in target.parent.glob(".*")]
            assert not hidden or code == errno.EROFS, (code, at, hidden)
            save(content(10), target)
            assert load(target)["epoch"] == 10
            if completed:
                break
        assert at > 15


@pytest.mark.parametrize(
    "case",
    [case if case in ("the third", "a link to best") else pytest.param(case, marks=pytest.mark.full) for case in CASES],
)
def test_refused_from_any_change_of_a_file_on_nothing_half_written_stays(tmp_path, case):
    """A full disk, which lets go of files all the same, and a file system that has become read-only."""
    assert forked(lambda: refuse_each_change(case, tmp_path)) == 0


@pytest.mark.parametrize("file", ["weights", "state"])
def test_what_safetensors_and_torch_say_of_a_full_disk_becomes_one_line(tmp_path, capfd, file):
    """A limit on the size of files: the system refuses in the middle of one."""
    target = tmp_path / "last"
    save(content(1), target)
    large, small = torch.zeros(100_000), torch.zeros(1)
    weights, state = (large, small) if file == "weights" else (small, large)

    def refused() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(NotWritten) as caught:
            save({**content(2), "state_dict": {"w": weights}, "optimizer_states": [state]}, target)
        print(caught.value)

    assert forked(refused) == 0
    told = capfd.readouterr().out
    assert f"{target} cannot be written: File too large (400,004 bytes needed, " in told
    assert told.count("\n") == 1
    assert whole(target) == [1]
    assert {path.name for path in tmp_path.iterdir()} == {"last", "last.1"}


def no_room(monkeypatch: pytest.MonkeyPatch, *, epoch: int, name: str) -> None:
    """The disk is full when that epoch's checkpoint is written."""
    genuine = lightning_io.save

    def refuse(checkpoint, target, **options):
        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.MonkeyPatch.context() as patch:
            if (checkpoint["epoch"], target.name) == (epoch, name):
                patch.setattr("ft.checkpoint.save.save_file", full)
            return genuine(checkpoint, target, **options)

    monkeypatch.setattr(lightning_io, "save", refuse)


def test_a_run_that_finds_the_disk_full_stops_and_can_go_on(build_run, train_run, resume_run, monkeypatch):
    whole_run = train_run()
    cut = build_run()
    with monkeypatch.context() as patch:
        no_room(patch, epoch=1, name="last")
        line = r"^\S+last cannot be written: No space left on device \([\d,]+ bytes needed, [\d,]+ free\)\. What.*$"
        with pytest.raises(NotWritten, match=line) as caught:
            fit(cut, started=0.0)
    assert "\n" not in str(caught.value)
    assert verify(cut.folder.last)["epoch"] == 0
    assert_equal_weights(weights_of(whole_run), weights_of(resume_run(cut)))


def test_a_run_may_go_on_without_a_checkpoint(build_run, monkeypatch, capsys):
    run = build_run("checkpoint.on_error=go_on", "trainer.max_epochs=3")
    no_room(monkeypatch, epoch=0, name="best")
    fit(run, started=0.0)
    assert capsys.readouterr().out.count("The run goes on without it (checkpoint.on_error=go_on).") == 1
    assert verify(run.folder.last)["epoch"] == 2
    # What was not kept is not called the best.
    assert run.checkpoints.best_epoch == verify(run.folder.best)["epoch"] > 0
    summary = json.loads(run.folder.summary.read_text())
    assert (summary["status"], summary["best_epoch"]) == ("finished", run.checkpoints.best_epoch)


@pytest.mark.full
def test_a_run_killed_before_any_change_of_a_file_while_it_saves_ends_as_one_left_alone(
    build_run, resume_run, tmp_path, monkeypatch
):
    """In the second epoch: before each change for the last, and before every fourth for the best."""
    hurt: list[Path] = []
    genuine = lightning_io.save

    def copied(checkpoint, target, **options):
        if checkpoint["epoch"] == 1:
            copies = tmp_path / f"hurt_{target.name}"
            run = target.parent.parent
            found = moments(lambda: genuine(checkpoint, target, **options), run, copies)
            hurt.extend(found if target.name == "last" else found[::4])
            # The child has saved it: back to where it began, for the run itself.
            shutil.rmtree(run)
            shutil.copytree(copies / "001", run, symlinks=True)
        return genuine(checkpoint, target, **options)

    run = build_run("trainer.max_epochs=2", "test=false")
    with monkeypatch.context() as patch:
        patch.setattr(lightning_io, "save", copied)
        fit(run, started=0.0)
    expected = weights_of(run)
    assert len(hurt) > 25
    for folder in hurt:
        again = resume_run(type(run)(**{**vars(run), "folder": type(run.folder)(folder)}))
        assert_equal_weights(weights_of(again), expected)
        for name in ("best", "last"):
            kept, there = load(folder / "checkpoints" / name), load(run.folder.checkpoint(name))
            assert kept["epoch"] == there["epoch"], folder
            assert_equal_weights(kept["state_dict"], there["state_dict"])
        assert (folder / "metrics.csv").read_text() == (run.folder.path / "metrics.csv").read_text()
        assert sorted(path.name for path in (folder / "checkpoints").glob(".*")) == []


def test_a_link_takes_no_room(tmp_path):
    save(content(1), tmp_path / "best")
    link(tmp_path / "best", tmp_path / "last")
    assert (tmp_path / "last" / WEIGHTS).samefile(tmp_path / "best" / WEIGHTS)
