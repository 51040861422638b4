"""One bit flipped, or the end cut off, in any file of the cache: what is read is what was written, or nothing is."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ft.cache.decoded as decoded_module
from ft.cache import activations
from ft.cache.decoded import DecodedSplit, Room
from ft.cache.folder import cache_dir
from ft.cache.readable import drop_unreadable_once
from ft.cache.writer import Writer
from ft.data.dataset import ImageDataset, collate
from ft.data.folder import folder
from ft.data.transforms import EvaluationTransform
from ft.input_spec import InputSpec
from ft.machine import memory
from ft.machine.timings import Timings

PLAIN = EvaluationTransform(InputSpec(8, 8, (0.5,) * 3, (0.25,) * 3, "bicubic", 1.0))
FACTS = {"processor": "one", "threads": 2}
CHANNELS = 5

# Reads everything of one kind; fails where it is neither what was written nor noticed. Whether it was noticed.
Reader = Callable[[], bool]


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Reader]:
    """A cache with an entry of every kind, and what reads it, by the folder of the entry."""
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded_module, "free_bytes", lambda: (1 << 40, 1 << 41))
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(generator.integers(0, 255, (9, 10, 3), dtype=np.uint8)).save(
                tmp_path / "photos" / name / f"{number}.png"
            )
    (tmp_path / "photos" / "cat" / "3.png").write_bytes(b"no image")

    def bad() -> list[tuple]:
        return list(drop_unreadable_once(folder(root=str(tmp_path / "photos")), on_bad="skip", decode=True).bad)

    def pixels(tell: Callable[[str], None]) -> torch.Tensor:
        split = folder(root=str(tmp_path / "photos")).splits["train"]
        kept = DecodedSplit(split.images, Room(1 << 30, tell))
        data = ImageDataset(split.images, torch.arange(len(split)), PLAIN, seed=0, decoded=kept)
        keys = [(0, at) for at in range(len(split))]
        if data.needs_no_decoding():
            return data.gather(keys, torch.device("cpu")).images
        return collate([data[key] for key in keys]).images

    timings = Timings({}, {}, {1: 0.005, 2: 0.003}, {1: 0.06}, 100.0)
    before, known = pixels(pytest.fail), bad()
    memory.remember(FACTS, timings, busy=False)
    written = {dtype: activation_entry(dtype) for dtype in ("fp32", "int8")}

    def read_pixels() -> bool:
        told: list[str] = []
        assert torch.equal(pixels(told.append), before)
        return bool(told)

    def read_bad() -> bool:
        assert bad() == known
        return False  # the files are looked at again, and nothing tells

    def read_timings() -> bool:
        found = memory.recall(FACTS)
        assert found in (None, timings)
        return found is None

    def read_activations(dtype: str, limit: float) -> bool:
        told: list[str] = []
        found = activations.read(f"key-{dtype}", memory=limit, tell=told.append)
        if found is None:
            assert told
            return True
        assert torch.equal(found.row, written[dtype].row)
        assert found.failures == written[dtype].failures
        positions = (found.row >= 0).nonzero().flatten()
        for one, other in zip(found.take(positions), written[dtype].take(positions), strict=True):
            assert torch.equal(one, other)
        return False

    return {
        "decoded/readable": read_bad,
        "decoded": read_pixels,
        "machine": read_timings,
        "activations/key-fp32": lambda: read_activations("fp32", 0),
        "activations/key-int8": lambda: read_activations("int8", float("inf")),
    }


def activation_entry(dtype: str) -> activations.Stored:
    generator = torch.Generator().manual_seed(0)
    writer = Writer(f"key-{dtype}", dtype, 6, {"of": "random numbers"}, in_memory=False)
    for start in (0, 3):
        values = torch.randn(3, CHANNELS, 4, 4, generator=generator)
        writer.add([values.contiguous(memory_format=torch.channels_last)], torch.arange(start, start + 3))
    writer.row[5] = -1
    writer.failures = [(5, "the file is empty")]
    return writer.finish()


def damage(file: Path, draw: random.Random) -> str:
    """Flips a bit, or cuts the file off; says which."""
    content = bytearray(file.read_bytes())
    at = draw.randrange(len(content))
    if draw.random() < 0.2:
        file.write_bytes(content[:at])
        return f"{file}: cut off after {at}"
    bit = draw.randrange(8)
    content[at] ^= 1 << bit
    file.write_bytes(content)
    return f"{file}: bit {bit} of byte {at}"


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.soak)])
def test_no_damage_is_silent(readers, tmp_path, count):
    whole = tmp_path / "whole"
    shutil.copytree(cache_dir(), whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.suffix != ".lock")
    assert len(files) >= 10
    noticed = 0
    for seed in range(count):
        relative = files[seed % len(files)]
        entry = cache_dir() / relative.parent
        what = damage(cache_dir() / relative, random.Random(seed))
        reader = next(read for place, read in readers.items() if str(relative).startswith(place))
        try:
            noticed += reader()
        except BaseException as error:
            raise AssertionError(what) from error
        shutil.rmtree(entry, ignore_errors=True)
        shutil.copytree(whole / relative.parent, entry)
    print(f"{noticed} of {count} noticed, the others harmless: spaces, and what is for people")
    assert noticed > count // 3
