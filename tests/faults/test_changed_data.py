"""A run that goes on notices when its images are not those it was begun with."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ft.build.run import build
from ft.data.files import changes, describe
from ft.data.source import ArrayImages
from ft.errors import UserError
from ft.fit import fit
from tests.conftest import TINY, composed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def repaint(photos: Path) -> None:
    Image.new("RGB", (32, 32), (9, 9, 9)).save(photos / "cat" / "3.png")


def same_size(photos: Path) -> None:
    file = photos / "cat" / "3.png"
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, (1, 1))


def touch(photos: Path) -> None:
    for file in photos.rglob("*.png"):
        os.utime(file, (1, 1))


def nothing(photos: Path) -> None:
    del photos


CHANGES = {
    "another image": (repaint, "cat/3.png has changed"),
    "as many bytes": (same_size, "cat/3.png has changed"),
    "one is missing": (lambda photos: (photos / "dog" / "1.png").unlink(), "dog/1.png is missing"),
    "one is new": (lambda photos: (photos / "dog" / "1.png").rename(photos / "dog" / "91.png"), "dog/91.png is new"),
    "touched": (touch, None),
    "nothing": (nothing, None),
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(*each, id=name, marks=[] if name in ("another image", "touched") else pytest.mark.full)
        for name, each in CHANGES.items()
    ],
)
def test_what_has_changed_is_named_before_anything_is_trained(
    photos: Path, tmp_path: Path, capsys, change: Callable[[Path], None], told: str | None
):
    tiny = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]
    with composed(
        *tiny, f"runs_dir={tmp_path}", "data=folder", f"data.root='{photos}'", "trainer.max_epochs=1", "test=false"
    ) as config:
        run = build(config)
    fit(run, started=0.0)
    change(photos)

    def resume(*overrides: str) -> None:
        with composed(f"runs_dir={tmp_path}", f"resume='{run.folder.path}'", *overrides) as config:
            build(config)

    if told is None:
        resume()
        return
    with pytest.raises(UserError) as error:
        resume()
    assert told in str(error.value)
    assert "data.changed=warn" in str(error.value)
    assert len(str(error.value).splitlines()) <= 3
    if "cat/3.png" in told:
        capsys.readouterr()
        resume("data.changed=warn")
        assert told in capsys.readouterr().out
        resume()  # it has been told


def test_images_in_memory_are_compared_too():
    pixels = np.zeros((3, 2, 2), dtype=np.uint8)
    names = {"train": ["a", "b", "c"]}

    def described(pixels: np.ndarray, targets: list[int]) -> dict:
        return describe({"train": ArrayImages(pixels)}, names, {"train": torch.tensor(targets)}, read=False)

    before = described(pixels, [0, 1, 1])
    assert changes(before, described(pixels.copy(), [0, 1, 1]), {}) == []
    assert changes(before, described(pixels + 1, [0, 1, 1]), {}) == ["the images of train have changed"]
    assert changes(before, described(pixels, [0, 1, 0]), {}) == ["labels of train have changed"]
    assert changes(before, {}, {}) == ["split train is gone"]
