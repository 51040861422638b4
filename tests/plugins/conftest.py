"""Two tiny pretrained architectures, and runs of them that last a second."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import Callback
from safetensors.torch import save_file

from ft.build.run import Run, build
from ft.fit import fit
from tests.conftest import TINY, Killed, StopIn, composed

CONF = Path(__file__).parents[2] / "conf"
PLUGINS = [file.stem for file in sorted((CONF / "plugins").glob("*.yaml"))]
ARCHITECTURES = ("test_resnet", "test_vit")
SHORT = ("data.num_images=40", "data.batch_size=6", "model.img_size=32", "schedule=cosine", "test=false")

# What a plugin needs to have something to do in a tiny run, beyond its defaults.
NEEDS: dict[str, tuple[str, ...]] = {
    "dropout_tuning": ("plugins.dropout_tuning.curve=auto",),
    "lr_finder": ("plugins.lr_finder.num_steps=30", "plugins.lr_finder.min_lr=1e-5"),
    "progressive_resize": ("plugins.progressive_resize.multiple_of=16",),
    "swa": ("plugins.swa.start=0.0",),
    "linear_probe": ("plugins.linear_probe.until_epoch=1",),
}
# What a plugin needs of an architecture.
NEEDS_OF: dict[tuple[str, str], tuple[str, ...]] = {}


def settings(*names: str, architecture: str = "test_resnet") -> list[str]:
    """Overrides that switch plugins on so that they do something in two epochs of a few batches."""
    chosen = [f"plugins=[{','.join(names)}]"]
    for name in names:
        chosen += [*NEEDS.get(name, ()), *NEEDS_OF.get((name, architecture), ())]
    return chosen


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights for both architectures: on random ones, unfreezing plugins are left out."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ARCHITECTURES:
        torch.manual_seed(0)
        state = timm.create_model(name, num_classes=0).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, folder / f"{name}.safetensors")
    return folder


class Runs:
    """Builds, trains, stops and resumes tiny runs."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder = folder
        self.weights = weights

    def build(self, *overrides: str, architecture: str = "test_resnet") -> Run:
        GlobalHydra.instance().clear()
        name = f"model.name={architecture}"
        start = f"model.weights='{self.weights}/{architecture}.safetensors'"
        with composed(*TINY, *SHORT, name, start, f"runs_dir='{self.folder}'", *overrides) as config:
            return build(config)

    def train(self, *overrides: str, architecture: str = "test_resnet", watch: Callback | None = None) -> Run:
        run = self.build(*overrides, architecture=architecture)
        if watch is not None:
            run.trainer.callbacks.append(watch)
        fit(run, started=0.0)
        return run

    def cut_and_resume(
        self, *overrides: str, epoch: int, batch: int | None, architecture: str = "test_resnet", watch: Callback
    ) -> Run:
        cut = self.build(*overrides, architecture=architecture)
        cut.trainer.callbacks.append(StopIn(epoch=epoch, batch=batch))
        with pytest.raises((Killed, KeyboardInterrupt)):
            fit(cut, started=0.0)
        with composed(f"runs_dir='{self.folder}'", f"resume='{cut.folder.path}'") as config:
            again = build(config)
        again.trainer.callbacks.append(watch)
        fit(again, started=0.0)
        return again


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), tiny_weights)


@pytest.fixture(scope="session")
def whole_run(runs: Runs) -> Callable[..., tuple[Run, "Diary"]]:
    """Uninterrupted runs, each trained once for all tests that look at it."""
    made: dict[tuple[str, ...], tuple[Run, Diary]] = {}

    def get(*overrides: str, architecture: str = "test_resnet") -> tuple[Run, Diary]:
        key = (architecture, *overrides)
        if key not in made:
            diary = Diary()
            made[key] = runs.train(*overrides, architecture=architecture, watch=diary), diary
        return made[key]

    return get


class Diary(Callback):
    """Writes down, for every batch, what is open and at which rates."""

    def __init__(self) -> None:
        self.lines: dict[tuple[int, int], tuple[frozenset[str], list[float]]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        opened = frozenset(name for name, parameter in pl_module.model.named_parameters() if parameter.requires_grad)
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self.lines[trainer.current_epoch, batch_idx] = (opened, rates)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests of one plugin in one worker: they look at the same whole runs."""
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")  # pyright: ignore[reportAttributeAccessIssue]
        if item.path.name == "test_contract.py" and name:
            item.add_marker(pytest.mark.xdist_group(name))
