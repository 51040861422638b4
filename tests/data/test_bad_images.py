"""Whatever lies among the images is read, or refused with a reason: nothing dies, nothing is left out silently."""

import hashlib
import json
import os
import re
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ft.build.run import build
from ft.data import images as images_module
from ft.data.bad_images import BadImages
from ft.data.check import POLICIES, drop_unreadable, file_paths
from ft.data.dataset import ImageDataset, Unreadable, collate
from ft.data.folder import folder
from ft.data.images import UnreadableImage, open_image, printable, to_mode
from ft.data.source import Source, Split
from ft.data.transforms import EvaluationTransform
from ft.errors import UserError
from ft.fit import fit
from ft.inference.inputs import find_images
from ft.inference.predict_files import Pictures, Told
from ft.inference.reading import Reading
from ft.inference.rows import Rows
from ft.inference.tta import Views
from ft.inference.write import Outputs, write_predictions
from ft.input_spec import InputSpec
from ft.quarantine import list_bad_images
from ft.run_folder import RunFolder
from tests.conftest import TINY, assert_equal_weights, composed, weights_of
from tests.data.bad_kinds import KINDS, READ, REFUSED, encoded

TRANSFORM = EvaluationTransform(InputSpec(16, 16, (0.5,) * 3, (0.25,) * 3, "bicubic", 1.0))


def lay(name: str, where: Path) -> Path:
    """Makes a file of one kind in a folder."""
    kind = KINDS[name]
    path = where / kind.name
    kind.make(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``photos/{cat,dog}``: a good photo in each."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "good.png").write_bytes(encoded())
    return tmp_path / "photos"


def read_all(root: Path, on_bad: str) -> tuple[list[str], BadImages, int]:
    """What training does with a folder: names of what is read, what is bad, and how many were met while decoding."""
    source = drop_unreadable(folder(root=str(root)), on_bad=on_bad, decode=on_bad != "error")
    split = source.splits["train"]
    bad = BadImages(on_bad, {"train": split.names}, source.bad, {"train": file_paths(split.images) or []})
    data = ImageDataset(split.images, torch.arange(len(split)), TRANSFORM, seed=0)
    batch = collate([data[0, at] for at in range(len(split))])
    bad.record("train", batch.failures)
    assert batch.images.shape[1:] == (3, 16, 16)
    return [str(split.names[at]) for at in batch.index.tolist()], bad, len(batch.failures)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_under_every_policy(photos, tmp_path, name, policy):
    path, kind = lay(name, photos / "cat"), KINDS[name]
    before = path.read_bytes() if path.is_file() else None
    shown = f"cat/{printable(path.name)}" + (
        "/inside.png" if path.is_dir() and kind.name == "x.jpg" and not kind.why else ""
    )
    started = time.perf_counter()
    if kind.why and policy == "error":
        with pytest.raises(UserError, match=r"cannot be read: .*set data\.on_bad=skip") as refused:
            read_all(photos, policy)
        assert "\n" not in str(refused.value)
        return
    names, bad, met = read_all(photos, policy)
    assert time.perf_counter() - started < 5
    assert met == 0  # whatever is left out is known before the first batch
    others = {"cat/good.png", "dog/good.png"}
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    listed = list_bad_images(run, bad)
    if not kind.why:
        assert set(names) == {*others, shown}
        assert listed == {}
        assert not list(run.path.iterdir())
        return
    assert set(names) == others
    assert list(listed) == [shown]
    (why,) = listed.values()
    assert re.search(kind.why, why), why
    assert why.isprintable()
    assert json.loads((run.path / "bad_images.json").read_text()) == listed
    assert (run.path / "quarantine").exists() == (policy == "quarantine")
    if policy == "quarantine":
        entry = json.loads((run.path / "quarantine" / "quarantine.json").read_text())[shown]
        link = run.path / "quarantine" / entry["link"]
        assert os.readlink(link) == str(path)
        assert entry["sha256"] == (None if before is None else hashlib.sha256(before).hexdigest())
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_the_picture(photos, name):
    path, kind = lay(name, photos / "cat"), KINDS[name]
    image = to_mode(open_image(str(path / "inside.png" if path.is_dir() else path)), "RGB")
    assert image.size == kind.size
    if kind.colour is not None:
        middle = image.getpixel((image.width // 2, image.height // 2))
        assert np.abs(np.subtract(middle, kind.colour)).max() <= 4
    for mode in ("L", "RGBA"):
        assert to_mode(image, mode).size == kind.size


def test_there_are_enough_kinds():
    assert len(KINDS) >= 23
    assert len(REFUSED) >= 23


@pytest.mark.parametrize("name", [name for name in REFUSED if "000" in name or "500" in name or "MiB" in name])
def test_bombs_are_refused_in_no_time_and_little_memory(photos, name):
    path = str(lay(name, photos / "cat"))
    child = os.fork()
    if not child:
        code = 1
        try:
            before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
            try:
                open_image(path)
            except UnreadableImage:
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                code = 0 if grown < 64 << 10 and time.perf_counter() - started < 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_that_may_not_be_opened_is_refused(photos, monkeypatch):
    def forbidden(path, **options):
        if Path(path).name == "good.png" and "cat" in path:
            raise PermissionError(13, "Permission denied", path)
        return original(path, **options)

    original = images_module.Image.open
    (photos / "cat" / "other.png").write_bytes(encoded())
    monkeypatch.setattr(images_module.Image, "open", forbidden)
    with pytest.raises(UserError, match=r"cat/good\.png cannot be read: Permission denied\. Mend"):
        read_all(photos, "error")
    assert read_all(photos, "skip")[1].found == {"cat/good.png": "Permission denied"}


def test_a_turned_photo_whose_exif_cannot_be_parsed_is_refused(photos, monkeypatch):
    def fails(image):
        raise SyntaxError("not a TIFF file (header b'xx' not valid)")

    monkeypatch.setattr(images_module.ImageOps, "exif_transpose", fails)
    with pytest.raises(UnreadableImage, match="not a TIFF file"):
        open_image(str(photos / "cat" / "good.png"))


def test_a_class_of_which_nothing_is_left_is_refused(photos):
    (photos / "cat" / "good.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no image of class 'cat' can be read in split train; .*: the file is empty"):
        read_all(photos, "skip")


def test_images_behind_something_else_than_files_are_looked_at_too():
    class Broken:
        def __len__(self):
            return 3

        def __getitem__(self, position):
            if position == 1:
                raise UnreadableImage("gone")
            return Image.new("RGB", (8, 8))

    source = Source({"train": Split(Broken(), np.array(["a", "a", "b"]), ["0", "1", "2"])})
    left = drop_unreadable(source, on_bad="skip", decode=True)
    assert list(left.splits["train"].names) == ["0", "2"]
    assert [bad[:2] for bad in left.bad] == [("1", "gone")]


@pytest.fixture
def crowded(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of the same photos: the first one has every kind of bad file besides."""
    generator = np.random.default_rng(0)
    for root in ("crowded", "clean"):
        for name in ("cat", "dog"):
            (tmp_path / root / name).mkdir(parents=True)
    for name in ("cat", "dog"):
        for number in range(8):
            pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            for root in ("crowded", "clean"):
                Image.fromarray(pixels).save(tmp_path / root / name / f"{number}.png")
    for at, name in enumerate(KINDS):
        roots = ("crowded",) if name in REFUSED else ("crowded", "clean")
        for root in roots if name != "much in a small file" else ():
            below = tmp_path / root / ("cat" if at % 2 else "dog") / f"{at:02}"
            below.mkdir()
            lay(name, below)
    return tmp_path / "crowded", tmp_path / "clean"


@pytest.mark.parametrize("policy", ["skip", pytest.param("quarantine", marks=pytest.mark.full)])
def test_a_run_that_leaves_them_out_equals_one_without_them(crowded, tmp_path, policy):
    plain = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]
    rows, weights, tested = [], [], []
    for root, options in zip(crowded, ((f"data.on_bad={policy}",), ()), strict=True):
        settings = (*plain, "data=folder", f"data.root='{root}'", "data.batch_size=4", f"runs_dir={tmp_path}/runs")
        with composed(*settings, *options) as config:
            run = build(config)
        if options:
            # On record before training begins.
            assert len(json.loads((run.folder.path / "bad_images.json").read_text())) == len(REFUSED)
        fit(run, started=0.0)
        summary = json.loads(run.folder.summary.read_text())
        assert summary["bad_images"] == (len(REFUSED) if options else 0)
        tested.append({key: value for key, value in summary.items() if key.startswith(("val/", "test/", "train/"))})
        weights.append(weights_of(run))
        rows.append((run.folder.path / "predictions" / "test.csv").read_text())
        assert (run.folder.path / "quarantine").is_dir() == (options == ("data.on_bad=quarantine",))
    assert tested[0] == tested[1]
    assert tested[0]
    assert rows[0] == rows[1]
    assert_equal_weights(*weights)


def test_what_is_damaged_while_the_run_goes_on_is_listed_and_left_out(crowded, tmp_path):
    plain = [each for each in TINY if not each.startswith(("data=", "data.num_images", "data.size"))]
    settings = ("data=folder", f"data.root='{crowded[1]}'", "data.on_bad=skip", "data.decoded=off")
    with composed(*plain, *settings, f"runs_dir={tmp_path}/runs") as config:
        run = build(config)
    (crowded[1] / "cat" / "3.png").write_bytes(b"")
    fit(run, started=0.0)
    assert json.loads((run.folder.path / "bad_images.json").read_text()) == {"cat/3.png": "the file is empty"}


def test_a_list_of_training_images_may_name_what_cannot_be_read(crowded, tmp_path):
    from ft.build.data import prepare_source

    (crowded[1] / "cat" / "0.png").write_bytes(b"")
    (tmp_path / "list.txt").write_text("".join(f"{name}/{at}.png\n" for name in ("cat", "dog") for at in range(8)))
    options = (
        "data=folder",
        f"data.root='{crowded[1]}'",
        "data.on_bad=skip",
        f"data.subset_file='{tmp_path}/list.txt'",
    )
    with composed(*options) as config:
        source = prepare_source(dict(config.data))
    assert sum(len(split) for split in source.splits.values()) == 15


def test_prediction_lists_every_one_of_them(photos, tmp_path):
    for at, name in enumerate(KINDS):
        (photos / f"{at:02}").mkdir()
        lay(name, photos / f"{at:02}")
    images = find_images(str(photos))
    pictures = Pictures([path for _, path in images], Views(TRANSFORM, "none"))
    items = [pictures[row] for row in range(len(images))]
    bad = [(images[item.index].name, item.why) for item in items if isinstance(item, Unreadable)]
    good = [images[row].name for row, item in enumerate(items) if not isinstance(item, Unreadable)]
    assert len(bad) == len(REFUSED)
    assert len(good) == len(READ) + 2
    reading = Reading("classification", ("cat", "dog"), "softmax")
    told = [Told(good, torch.full((len(good), 2), 0.5), None, bad)]
    outputs = Outputs(tmp_path / "p.csv", None, False, photos)
    written = write_predictions(told, Rows(reading), outputs, on_bad="skip", num_images=len(images))
    assert (written.images, len(written.bad)) == (len(good), len(bad))


def test_the_users_files_stay_as_they_are(crowded, tmp_path):
    def state(root: Path) -> dict[str, tuple]:
        found = {}
        for path in sorted(root.rglob("*")):
            about = path.lstat()
            found[str(path)] = (about.st_mode, about.st_size, about.st_mtime_ns, about.st_ino)
        return found

    before = state(crowded[0])
    bad = read_all(crowded[0], "quarantine")[1]
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for _ in range(2):  # a run that is resumed lists them again
        assert len(list_bad_images(run, bad)) == len(REFUSED)
    assert state(crowded[0]) == before
    shutil.rmtree(run.path)
    assert state(crowded[0]) == before
