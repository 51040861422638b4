"""Files are looked at once, and what was found is known until one of them changes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ft.cache.readable import drop_unreadable_once
from ft.data import check as check_module
from ft.data.folder import folder
from ft.data.source import Source
from ft.errors import UserError


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Source, int]]:
    """Checks six pictures, and returns what is left and how many files were opened."""
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    read: list[str] = []
    for name in ("probe_image", "decode_image"):
        original = getattr(check_module, name)
        monkeypatch.setattr(check_module, name, lambda path, look=original: [read.append(path), look(path)])
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / f"{number}.png")

    def run(on_bad: str = "error") -> tuple[Source, int]:
        read.clear()
        source = folder(root=str(tmp_path / "photos"))
        return drop_unreadable_once(source, on_bad=on_bad, decode=on_bad != "error"), len(read)

    return run


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_files_are_looked_at_again_only_when_one_has_changed(check, tmp_path, on_bad):
    assert check(on_bad)[1] == 6
    source, num_read = check(on_bad)
    assert (len(source.splits["train"]), num_read) == (6, 0)
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a" / "1.png")
    assert check(on_bad)[1] == 6
    assert check(on_bad)[1] == 0


def test_a_look_at_headers_is_none_at_pixels(check):
    assert [check(on_bad)[1] for on_bad in ("error", "skip", "error", "quarantine")] == [6, 6, 0, 0]


def test_what_cannot_be_read_is_known_without_another_look(check, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a" / "1.png")
    whole = (tmp_path / "photos" / "a" / "1.png").read_bytes()
    (tmp_path / "photos" / "a" / "1.png").write_bytes(whole[:50])
    for num_read in (6, 0):
        assert check("skip")[1] == num_read
        source, _ = check("quarantine")
        assert len(source.splits["train"]) == 5
        (bad,) = source.bad
        assert bad == ("a/1.png", "image file is truncated", str(tmp_path / "photos" / "a" / "1.png"))
    (tmp_path / "photos" / "a" / "1.png").write_bytes(whole)
    source, num_read = check("skip")
    assert (len(source.splits["train"]), num_read, source.bad) == (6, 6, [])


def test_what_lies_outside_the_file_is_looked_at_every_time(check, tmp_path):
    (tmp_path / "photos" / "a" / "3.png").symlink_to("gone.png")
    for num_read in (7, 1):
        source, num = check("skip")
        assert num == num_read
        assert [bad.why for bad in source.bad] == ["a link to a file that is not there"]
    with pytest.raises(UserError, match=r"a/3\.png cannot be read: a link to a file that is not there"):
        check()


def test_a_cache_that_cannot_be_written_to_is_no_obstacle(check, tmp_path):
    (tmp_path / "cache").write_text("a file")
    for _ in range(2):
        assert check()[1] == 6


def test_a_wrong_setting_is_refused_when_nothing_is_read_too(check):
    check()
    with pytest.raises(UserError, match=r"data\.on_bad=ignore"):
        check("ignore")
