"""Headers are read once: until a file changes, and only where all could be read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ft.cache.readable import drop_unreadable_once
from ft.data import check as check_module
from ft.data.folder import folder
from ft.data.source import Source
from ft.errors import UserError


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Source, int]]:
    """Checks three pictures, and returns what is left and how many headers were read."""
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    read: list[str] = []
    original = check_module.probe_image
    monkeypatch.setattr(check_module, "probe_image", lambda path: [read.append(path), original(path)])
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / f"{number}.png")

    def run(on_bad: str = "error") -> tuple[Source, int]:
        read.clear()
        return drop_unreadable_once(folder(root=str(tmp_path / "photos")), on_bad=on_bad), len(read)

    return run


def test_headers_are_read_again_only_when_a_file_has_changed(check, tmp_path):
    assert check()[1] == 6
    source, num_read = check()
    assert (len(source.splits["train"]), num_read) == (6, 0)
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a" / "1.png")
    assert check()[1] == 6
    assert check()[1] == 0


def test_what_cannot_be_read_is_found_every_time(check, tmp_path):
    (tmp_path / "photos" / "a" / "1.png").write_bytes(b"no image")
    for _ in range(2):
        source, num_read = check("skip")
        assert (len(source.splits["train"]), num_read) == (5, 6)
        assert [name for name, _ in source.bad] == ["a/1.png"]
        with pytest.raises(UserError, match=r"a/1.png cannot be read"):
            check()


def test_a_cache_that_cannot_be_written_to_is_no_obstacle(check, tmp_path):
    (tmp_path / "cache").write_text("a file")
    for _ in range(2):
        assert check()[1] == 6


def test_a_wrong_setting_is_refused_when_nothing_is_read_too(check):
    check()
    with pytest.raises(UserError, match=r"data\.on_bad=ignore"):
        check("ignore")
