"""Shared by all tests: a run from overrides, in this process, in a temporary folder."""

import os

# Tiny models gain nothing from threads, and lose all when several processes share the cores. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback
from omegaconf import DictConfig, open_dict

from ft.build.run import Run, build
from ft.command.verb import CONF
from ft.fit import fit

# Seconds, not minutes: 0.4 million parameters, random weights, 32 images of shapes.
TINY = (
    "model.name=test_resnet",
    "model.weights=none",
    "data=synthetic",
    "data.num_images=32",
    "data.size=32",
    "data.suggested.img_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "recipe=full",
    "trainer.autotune=false",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "report=false",
)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests keep stays away from the user's cache, in the processes they start too."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FT_CACHE_DIR", str(folder))
        yield folder


@contextmanager
def composed(*overrides: str, config: str = "train") -> Iterator[DictConfig]:
    """The config that the command line would compose, with Hydra's own state as a verb finds it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = compose(config, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(whole)
        with open_dict(whole):
            hydra = whole.pop("hydra")
        del hydra
        yield whole


@pytest.fixture
def build_run(tmp_path: Path) -> Callable[..., Run]:
    """Builds a run, without training it."""

    def make(*overrides: str) -> Run:
        with composed(*TINY, f"runs_dir={tmp_path}", *overrides) as config:
            return build(config)

    return make


@pytest.fixture
def train_run(build_run: Callable[..., Run]) -> Callable[..., Run]:
    """Trains a tiny run to its end and returns it."""

    def make(*overrides: str) -> Run:
        run = build_run(*overrides)
        fit(run, started=0.0)
        return run

    return make


@pytest.fixture
def resume_run(tmp_path: Path) -> Callable[..., Run]:
    """Resumes a run by the path of its folder."""

    def make(run: Run, *overrides: str) -> Run:
        with composed(f"runs_dir={tmp_path}", f"resume='{run.folder.path}'", *overrides) as config:
            again = build(config)
        fit(again, started=0.0)
        return again

    return make


@pytest.fixture
def pretrained(tmp_path):
    """Weights from a file: with random ones every stage is open."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {name: tensor.contiguous() for name, tensor in timm.create_model("test_resnet").state_dict().items()}
    save_file(state, tmp_path / "test_resnet.safetensors")
    return f"model.weights='{tmp_path}/test_resnet.safetensors'"


class StopIn(Callback):
    """Ctrl-C after a batch, or an exception that nothing handles before an epoch."""

    def __init__(self, *, epoch: int, batch: int | None) -> None:
        self.epoch = epoch
        self.batch = batch

    def on_train_epoch_start(self, trainer, pl_module):
        if self.batch is None and trainer.current_epoch == self.epoch:
            raise Killed

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.batch is not None and (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            signal.raise_signal(signal.SIGINT)


class Killed(Exception):
    """Nothing of ft's catches this."""


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint."""
    from ft.checkpoint.load import load

    return load(run.folder.last)["state_dict"]


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Bit for bit, and not trivially: there is something to compare."""
    assert one
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
