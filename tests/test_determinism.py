"""The same seed gives the same bytes, whatever decodes the images; and two processes compute what one does."""

import csv
import hashlib
from pathlib import Path

import pytest

from ft.build.run import build
from ft.fit import fit
from tests.conftest import TINY, composed
from tests.test_command_line import ft
from tests.test_processes import only_run

# Photos that workers have to decode, views that are drawn, dropout, and blended batches.
LIVELY = (
    "data=folder",
    "data.decoded=off",
    "trainer.max_epochs=2",
    "model.head.drop_rate=0.3",
    "plugins=[augmentation,mixup,ema]",
)


@pytest.fixture
def train_on_photos(tmp_path, photos):
    """Trains on photos from files."""
    tiny = [word for word in TINY if not word.startswith(("data.num_images", "data.size"))]

    def train(*words):
        with composed(*tiny, *LIVELY, f"data.root='{photos}'", f"runs_dir={tmp_path}", *words) as config:
            run = build(config)
        fit(run, started=0.0)
        return run

    return train


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``{robin,wren}/*.png``: twenty small pictures each."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("birds")
    generator = np.random.default_rng(0)
    for name in ("robin", "wren"):
        (root / name).mkdir()
        for number in range(20):
            Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


def files_of(run) -> dict[str, str]:
    """sha256 of what a run leaves that no clock has written."""
    names = (
        "checkpoints/last/weights.safetensors",
        "checkpoints/best/weights.safetensors",
        "metrics.csv",
        "predictions/val.csv",
        "predictions/test.csv",
        "predictions/val.safetensors",
        "predictions/test.safetensors",
    )
    return {name: hashlib.sha256((run.folder.path / name).read_bytes()).hexdigest() for name in names}


def test_the_same_seed_twice_gives_the_same_bytes_and_another_seed_others(train_on_photos):
    one, same, other = (files_of(train_on_photos(f"seed={seed}")) for seed in (3, 3, 4))
    assert one == same
    assert not [name for name in one if one[name] == other[name]]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than this machine has processors, on purpose
def test_no_two_and_four_workers_give_the_same_bytes(train_on_photos):
    none, two, four = (files_of(train_on_photos(f"data.num_workers={workers}")) for workers in (0, 2, 4))
    assert none == two
    assert none == four


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as lines:
        return [float(row["train/loss"]) for row in csv.DictReader(lines)]


@pytest.mark.full
def test_two_processes_have_the_losses_of_one_with_the_same_effective_batch(tmp_path):
    """20 steps of SGD on a transformer, which has no BatchNorm: an epoch is one step, so that each loss is told."""
    options = [
        *(word for word in TINY if not word.startswith("trainer.max_epochs")), "model.name=test_vit",
        "model.img_size=32", "optimizer=sgd", "optimizer.lr=0.05", "trainer.max_epochs=20", "test=false",
        "trainer.precision=32-true", "data.val_fraction=0.5", "data.test_fraction=0",
        "trainer.check_val_every_n_epoch=20",
    ]  # fmt: skip
    one = ft(*options, "data.batch_size=16", f"runs_dir={tmp_path}/one")
    two = ft(*options, "data.batch_size=8", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=20",
             "trainer.check_val_every_n_epoch=20", "trainer.precision=32-true", f"runs_dir={tmp_path}/two")  # fmt: skip
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    alone, shared = (losses(only_run(tmp_path / name)) for name in ("one", "two"))
    assert len(alone) == len(shared) == 20
    assert alone[0] > 1.05 * alone[-1]  # something is learned, so that an error would grow
    assert shared == pytest.approx(alone, rel=1e-5)


def test_a_run_that_the_clock_decides_says_so(train_run, capsys):
    train_run("budget=5m", "trainer.max_epochs=1", "test=false")
    assert "budget=5m: time decides how far this run comes, so it cannot be repeated exactly" in capsys.readouterr().out
    train_run("trainer.max_epochs=1", "test=false")
    assert "time decides" not in capsys.readouterr().out
