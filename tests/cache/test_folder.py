"""Entries of the cache folder: listed, locked, made whole, evicted oldest first."""

import errno
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ft.cache.folder import (
    cache_dir,
    entries,
    locked,
    made_whole,
    make,
    make_room,
    place,
    remove,
    reserve,
    touch,
    write_about,
)

LOCK = """
import sys
from pathlib import Path
from ft.cache.folder import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(kind: str, key: str, *, size: int = 1000, days: float = 0.0) -> Path:
    """An entry of so many bytes, its about.json apart, that was last used so many days ago."""
    path = make(place(kind, key))
    reserve(path / "data", size)
    write_about(path, {"of": key})
    used = time.time() - 86_400 * days
    os.utime(path / "about.json", (used, used))
    return path


def size(path: Path) -> int:
    return next(each.bytes for each in entries() if each.path == path)


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "ft.cache", *words], capture_output=True, text=True, check=False)


def test_the_folder_is_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("FT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "ft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("decoded", "key") == tmp_path / ".cache" / "ft" / "decoded" / "key"


def test_without_a_cache_there_are_no_entries_and_nothing_is_made(cache):
    assert entries() == []
    assert not cache.exists()


def test_entries_say_what_they_are_and_damaged_ones_are_listed_too():
    entry("decoded", "good", days=2)
    (entry("activations", "bad", days=1) / "about.json").write_text("{")
    (entry("machine", "gone") / "about.json").unlink()
    found = {each.key: each for each in entries()}
    assert found["good"].about == {"of": "good"}
    assert found["bad"].about == found["gone"].about == {}
    assert found["gone"].bytes == 1000
    assert found["good"].last_used == pytest.approx(time.time() - 2 * 86_400, abs=60)
    assert [each.key for each in entries("decoded")] == ["good"]


def test_others_cannot_read_a_cache_that_is_made_here(cache):
    entry("decoded", "a")
    assert cache.stat().st_mode & 0o077 == 0


def test_the_least_recently_used_goes_first():
    kept = [entry("decoded", str(days), days=days) for days in (3, 1, 2)]
    one = size(kept[0])
    assert make_room(500, limit=500 + 2 * one)
    assert [each.key for each in entries()] == ["2", "1"]
    touch(kept[2])
    assert make_room(500, limit=500 + one)
    assert [each.key for each in entries()] == ["2"]


def test_nothing_goes_where_there_is_room_or_where_it_would_not_be_enough():
    paths = [entry("decoded", "a", days=1), entry("activations", "b")]
    total = sum(size(path) for path in paths)
    assert make_room(500, limit=total + 500)
    assert not make_room(501, limit=500)
    assert not make_room(100, limit=200, kind="decoded", unused_since=time.time() - 2 * 86_400)
    assert len(entries()) == 2
    assert make_room(100, limit=100, kind="decoded")
    assert [each.kind for each in entries()] == ["activations"]


def test_what_is_locked_stays():
    old, new = entry("decoded", "old", days=2), entry("decoded", "new", days=1)
    with locked(old):
        assert make_room(10, limit=10 + size(old))
        assert [each.path for each in entries()] == [old]
        assert not make_room(10, limit=20)
        assert not remove(entries()[0])
    assert remove(entries()[0])
    assert entries() == []
    assert not new.exists()


def test_a_lock_waits_for_the_other_process_and_one_that_will_not_wait_is_told():
    path = place("decoded", "a")
    with locked_by_another_process(path) as other:
        with locked(path, wait=False) as ours:
            assert not ours
        assert other.stdin is not None
        other.stdin.close()  # it ends, and with it its lock
        with locked(path) as ours:
            assert ours
            assert other.wait(10) == 0


def test_the_lock_of_a_process_that_was_killed_is_free():
    path = place("decoded", "a")
    with locked_by_another_process(path) as other:
        other.kill()
        with locked(path) as ours:
            assert ours


def test_an_entry_is_made_whole_or_not_at_all():
    path = entry("decoded", "a")
    with pytest.raises(TypeError), made_whole(path) as unfinished:
        write_about(unfinished, {"of": object()})
    assert [each.about for each in entries()] == [{"of": "a"}]
    with made_whole(path) as unfinished:
        write_about(unfinished, {"of": "another"})
    assert [(each.path, each.about) for each in entries()] == [(path, {"of": "another"})]


def test_a_full_disk_is_an_error_now_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        reserve(tmp_path / "file", 100)
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("missing", ["in the file system", "in the operating system"])
def test_where_space_cannot_be_reserved_the_file_has_its_size_anyway(tmp_path, monkeypatch, missing):
    def refused(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if missing == "in the file system":
        monkeypatch.setattr(os, "posix_fallocate", refused)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
    reserve(tmp_path / "file", 100)
    assert (tmp_path / "file").read_bytes() == bytes(100)


def test_reserving_does_not_shorten_a_file_that_somebody_has_mapped(tmp_path):
    reserve(tmp_path / "file", 100_000)
    with (tmp_path / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        reserve(tmp_path / "file", 10)
        assert mapped[99_999] == 0  # SIGBUS, if it had been


def test_the_command_lists_and_cleans():
    entry("decoded", "abcdef", days=3)
    entry("activations", "012345")
    listed = run("list").stdout
    assert "abcdef" in listed
    assert "2 entries" in listed
    assert "1 of 1 entries deleted" in run("clean", "--older-than", "2").stdout
    assert [each.key for each in entries()] == ["012345"]
    assert "0 of 0 entries deleted" in run("clean", "decoded").stdout
    run("clean")
    assert entries() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "command=lst is not a choice: it must be one of list, clean. Did you mean list?"),
        (["clean", "decode"], "kind=decode is not a choice: it must be one of activations, decoded, machine. Did you"),
        (["clean", "--older-than", "-1"], "--older-than must be at least 0 days, got -1.0."),
        ([], "the following arguments are required: command."),
    ],
)
def test_mistakes_are_told_in_one_line(words, message):
    result = run(*words)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
