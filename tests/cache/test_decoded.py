"""Decoded once: the same batches, bit for bit, whether images are kept or not, and whatever happens to what is kept."""

import errno
import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ft.cache.decoded as decoded_module
import ft.cache.decoded_views as views_module
from ft.cache.decoded import DecodedSplit, Room
from ft.cache.folder import entries
from ft.data import source as source_module
from ft.data.batch import Batch
from ft.data.dataset import ImageDataset
from ft.data.folder import folder
from ft.data.loader import Loader
from ft.data.sampler import EpochBatchSampler, Progress
from ft.data.training_view import TrainingView, shared, view_spec
from ft.data.transforms import EvaluationTransform, Transform
from ft.fit import fit
from ft.input_spec import InputSpec
from tests.conftest import TINY, assert_equal_weights, composed, weights_of

SPEC = InputSpec(24, 24, (0.5,) * 3, (0.25,) * 3, "bicubic", 0.875)
PLAIN = EvaluationTransform(SPEC)
CPU = torch.device("cpu")
LIMIT = 1 << 30


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, on a disk with room."""
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded_module, "free_bytes", lambda: (1 << 40, 1 << 41))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``photos/{cat,dog}/*.png``: seven pictures each, different at every pixel."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(7):
            pixels = generator.integers(0, 255, (30 + number, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded, in this process."""
    names: list[str] = []

    def counting(path: str) -> Image.Image:
        names.append(Path(path).name)
        return original(path)

    original = source_module.open_image
    monkeypatch.setattr(source_module, "open_image", counting)
    return names


def dataset(photos: Path, transform: Transform = PLAIN, *, keep: bool = True, **room) -> ImageDataset:
    split = folder(root=str(photos)).splits["train"]
    kept = DecodedSplit(split.images, Room(**{"limit": LIMIT, "tell": pytest.fail, **room})) if keep else None
    return ImageDataset(split.images, torch.arange(len(split)), transform, seed=3, decoded=kept)


def loader(data: ImageDataset, *, epoch: int = 0, workers: int = 0) -> Loader:
    batches = EpochBatchSampler(len(data), 4, seed=1, progress=lambda: Progress(epoch, 0), drop_last=False)
    return Loader(data, batches, num_workers=workers, persistent=True, device=lambda: CPU, instead=lambda: None)


def assert_equal(some: list[Batch], others: list[Batch]) -> None:
    assert some
    for one, other in zip(some, others, strict=True):
        assert one.failures == other.failures
        for name in ("images", "targets", "index"):
            left, right = getattr(one, name), getattr(other, name)
            assert left.dtype == right.dtype
            assert torch.equal(left, right), name


def augmented(policy: str, strength: float = 1.0) -> TrainingView:
    return TrainingView(PLAIN, EvaluationTransform(view_spec(SPEC, 1.2)), policy, (0, 0, 0), shared(strength))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("policy", [None, "none", "trivial"])
def test_batches_are_those_of_decoding_every_time(photos, policy, workers):
    transform = PLAIN if policy is None else augmented(policy)
    data = dataset(photos, transform)
    for epoch in (0, 1, 2):  # the first makes the entry
        plain = list(loader(dataset(photos, transform, keep=False), epoch=epoch))
        assert_equal(list(loader(data, epoch=epoch, workers=workers)), plain)
    assert data.needs_no_decoding() == (policy != "trivial")


@pytest.mark.full
def test_workers_that_are_spawned_keep_images_too(photos):
    data = dataset(photos)
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        kept = list(loader(data, workers=1))
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert data.needs_no_decoding()
    assert_equal(kept, list(loader(dataset(photos, keep=False))))


def test_the_second_run_decodes_nothing_and_starts_no_workers(photos, decodes):
    first = list(loader(dataset(photos)))
    assert len(decodes) == 14
    second = loader(dataset(photos), workers=2)
    assert_equal(list(second), first)
    assert len(decodes) == 14
    assert second.decoding is None


def test_workers_end_when_everything_is_kept(photos):
    passes = loader(dataset(photos), workers=1)
    first = list(passes)
    assert passes.decoding is not None
    assert_equal(list(passes), first)
    assert passes.decoding is None


def test_augmentation_that_ends_finds_the_plain_view(photos, decodes):
    transform = augmented("none")
    data = dataset(photos, transform)
    list(loader(data))
    transform.strength.fill_(0)
    assert not data.needs_no_decoding()
    assert_equal(list(loader(data)), list(loader(dataset(photos, keep=False))))
    assert len(decodes) == 3 * 14
    assert len(entries("decoded")) == 2


def test_a_changed_file_is_decoded_anew(photos, decodes):
    list(loader(dataset(photos)))
    changed = photos / "cat" / "0.png"
    Image.new("RGB", (40, 40), "red").save(changed)
    batches = list(loader(dataset(photos)))
    assert_equal(batches, list(loader(dataset(photos, keep=False))))
    assert len(decodes) == 3 * 14


@pytest.mark.parametrize("change", ["size", "crop", "code"])
def test_another_view_is_another_entry(photos, change, monkeypatch):
    list(loader(dataset(photos)))
    spec = SPEC
    if change == "code":
        monkeypatch.setattr(decoded_module, "CODE", ("images.py",))
    else:
        values = {"size": {"height": 16, "width": 16}, "crop": {"crop_pct": 1.0}}[change]
        spec = InputSpec(**{**vars(SPEC), **values})
    data = dataset(photos, EvaluationTransform(spec))
    assert not data.needs_no_decoding()
    assert len(entries("decoded")) == 2


def test_mean_and_std_are_no_part_of_what_is_kept(photos, decodes):
    list(loader(dataset(photos)))
    list(loader(dataset(photos, EvaluationTransform(InputSpec(**{**vars(SPEC), "mean": (0.0, 0.0, 0.0)})))))
    assert len(decodes) == 14


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("name", ["pixels.u8", "sums.u64"])
@pytest.mark.parametrize("gathered", [True, False])
def test_a_flipped_bit_is_noticed_and_mended(photos, decodes, name, gathered):
    transform = PLAIN if gathered else augmented("trivial", 0.0001)
    expected = list(loader(dataset(photos, transform)))
    done = len(decodes)
    flip(entries("decoded")[0].path / name, 17)
    lines: list[str] = []
    for _ in range(2):
        assert_equal(list(loader(dataset(photos, transform, tell=lines.append))), expected)
        assert len(decodes) == done + 1
    (line,) = lines
    assert "does not fit its sum; it is decoded again" in line


def test_a_file_that_was_cut_off_is_made_anew(photos, decodes):
    expected = list(loader(dataset(photos)))
    os.truncate(entries("decoded")[0].path / "pixels.u8", 100)
    lines: list[str] = []
    assert_equal(list(loader(dataset(photos, tell=lines.append))), expected)
    assert len(decodes) == 2 * 14
    assert len(entries("decoded")) == 1
    (line,) = lines
    assert "has 100 bytes instead of 24192; it is decoded again" in line


def test_an_unreadable_image_fails_every_time_and_the_others_are_kept(photos, decodes):
    (photos / "dog" / "3.png").write_bytes((photos / "dog" / "3.png").read_bytes()[:200])
    data = dataset(photos)
    plain = list(loader(dataset(photos, keep=False)))
    assert sum(len(batch.failures) for batch in plain) == 1
    decodes.clear()
    for _ in range(3):
        assert_equal(list(loader(data)), plain)
    assert data.needs_no_decoding()
    assert len(decodes) == 14 + 2


def test_a_batch_of_which_nothing_can_be_read_is_empty(photos):
    for file in photos.glob("*/*.png"):
        file.write_bytes(b"GIF89a")
    data = dataset(photos)
    plain = list(loader(dataset(photos, keep=False)))
    for _ in range(2):
        assert_equal(list(loader(data)), plain)


def test_where_all_images_fit_on_the_device_batches_are_gathered_there(photos, monkeypatch):
    monkeypatch.setattr(views_module, "free_memory", lambda device: 4 * 14 * 3 * 24 * 24)
    data = dataset(photos)
    expected = list(loader(data))
    assert data.decoded is not None
    assert_equal(list(loader(data)), expected)
    views = data.decoded._views(PLAIN)
    device, everything = views._everything
    assert (device, tuple(everything.shape)) == (CPU, (14, 3, 24, 24))
    everything[:] = 0
    assert not any(batch.images.any() for batch in loader(data))  # it is from there that they come
    monkeypatch.setattr(views_module, "free_memory", lambda device: 4 * 14 * 3 * 24 * 24 - 1)
    smaller = dataset(photos, tell=lambda line: None)  # the zeros went into the file
    assert_equal(list(loader(smaller)), expected)
    assert smaller.decoded._views(PLAIN)._everything is None


def test_damage_is_mended_before_images_go_to_the_device(photos, monkeypatch):
    monkeypatch.setattr(views_module, "free_memory", lambda device: LIMIT)
    expected = list(loader(dataset(photos)))
    flip(entries("decoded")[0].path / "pixels.u8", 17)
    data = dataset(photos, tell=lambda line: None)
    for _ in range(2):
        assert_equal(list(loader(data)), expected)


def full(*_) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def forbidden(*_) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ({"reserve": full}, "No space left on device"),
        ({"made_whole": forbidden}, "Permission denied"),
        ({"locked": forbidden}, "Permission denied"),
        ({"free_bytes": lambda: (1 << 30, 1 << 34)}, "a tenth of the disk is to stay free"),
        ({}, "data.decoded_limit is 0.0 MiB"),
    ],
)
def test_without_room_the_run_says_so_once_and_goes_on(photos, decodes, cache, monkeypatch, trouble, why):
    for name, replacement in trouble.items():
        monkeypatch.setattr(decoded_module, name, replacement)
    lines: list[str] = []
    data = dataset(photos, limit=LIMIT if trouble else 1000, tell=lines.append)
    for _ in range(2):
        assert_equal(list(loader(data)), list(loader(dataset(photos, keep=False))))
    assert len(decodes) == 4 * 14
    (line,) = lines
    assert "\n" not in line
    assert str(cache) in line
    assert why in line
    assert "MiB are needed" in line
    assert not [path for path in cache.glob("decoded/*") if path.is_dir()]


def test_what_was_not_used_for_the_longest_time_makes_room(photos, tmp_path):
    list(loader(dataset(photos)))
    old = entries("decoded")[0]
    os.utime(old.path / "about.json", (0, 0))
    larger = EvaluationTransform(InputSpec(**{**vars(SPEC), "height": 32, "width": 32}))
    list(loader(dataset(photos, larger, limit=2 * old.bytes)))
    assert not old.path.exists()
    # What this run has in use stays, and the next one decodes every time.
    lines: list[str] = []
    data = dataset(photos, limit=2 * old.bytes, tell=lines.append)
    data.decoded.room.started = 0.0
    list(loader(data))
    assert len(lines) == len(entries("decoded")) == 1


def test_a_cache_that_cannot_be_written_to_is_read_and_stays_as_it_is(photos, decodes, monkeypatch):
    expected = list(loader(dataset(photos)))
    path = entries("decoded")[0].path / "pixels.u8"
    flip(path, 17)
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_equal(list(loader(dataset(photos, tell=lambda line: None))), expected)
    assert len(decodes) == 15
    assert path.read_bytes() == before


def test_an_entry_that_is_deleted_and_damaged_in_use_gives_the_right_images(photos):
    data = dataset(photos, tell=lambda line: None)
    expected = list(loader(data))
    path = entries("decoded")[0].path
    flip(path / "pixels.u8", 17)
    (path / "pixels.u8").unlink()
    data.decoded._views(PLAIN)._good[:] = False
    assert_equal(list(loader(data)), expected)


def test_it_goes_to_another_process_without_its_pixels(photos):
    data = dataset(photos)
    list(loader(data))
    frozen = pickle.dumps(data)
    assert len(frozen) < 20_000
    assert_equal(list(loader(pickle.loads(frozen))), list(loader(data)))


@pytest.fixture
def photo_run(photos: Path, tmp_path: Path) -> Callable[..., dict[str, torch.Tensor]]:
    """Trains on the photos with augmentation, and returns the weights."""
    from ft.build.run import build

    plain = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]

    def make(*overrides: str) -> dict[str, torch.Tensor]:
        settings = (
            *plain, f"runs_dir={tmp_path}/runs", "data=folder", f"data.root='{photos}'", "data.batch_size=4",
            "plugins=[augmentation]", "plugins.augmentation.off_last=1", "trainer.max_epochs=3", *overrides,
        )  # fmt: skip
        with composed(*settings) as config:
            run = build(config)
        fit(run, started=0.0)
        return weights_of(run)

    return make


@pytest.mark.parametrize("policy", ["none", "trivial"])
def test_a_run_ends_with_the_same_weights_kept_or_not(photo_run, cache, policy):
    option = f"plugins.augmentation.policy={policy}"
    plain = photo_run(option, "data.decoded=off")
    assert not cache.exists()
    assert_equal_weights(photo_run(option), plain)
    assert_equal_weights(photo_run(option, "data.num_workers=2"), plain)
    # train as augmentation wants it and as it is without, val, test; and that all can be read
    assert len(entries("decoded")) == 5


def test_a_run_on_a_full_disk_warns_and_goes_on(photo_run, monkeypatch, capsys):
    monkeypatch.setattr(decoded_module, "reserve", full)
    photo_run("trainer.max_epochs=2")
    assert capsys.readouterr().out.count("decoded images are not kept in") == 1
    assert [each.key[:9] for each in entries("decoded")] == ["readable-"]
