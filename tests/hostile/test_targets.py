"""``_target_``: everything of ours is accepted, and nothing that loads, writes, downloads or runs.

The attacks come four ways: by name alone, from the command line, from a run folder's ``config.yaml``, and from an
installed package with an entry point.
"""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from omegaconf import OmegaConf

from ft import allowed_targets
from ft.allowed_targets import is_allowed, is_allowed_name, own_packages
from ft.build.trained import load_predictor
from ft.errors import UserError
from ft.instantiate import check_targets, instantiate, locate
from ft.run_folder import RunFolder
from tests.conftest import TINY, composed

ROOT = Path(__file__).parent.parent.parent
# By where in the config each would do its work.
ATTACKS = {
    "model": [
        "builtins.open", "builtins.exec", "builtins.eval", "builtins.__import__", "os.system", "subprocess.Popen",
        "torch.load", "torch.hub.load", "torch.jit.load", "torch.utils.cpp_extension.load", "torch.export.load",
        "torch.nn.modules.module.torch.load", "torch.nn.functional.torch.hub.load", "torch.nn.Module.__class__",
        "torch.nn.__builtins__.eval", "torch.nn.utils.convert_parameters.torch.load", "torch.nn.init.warnings.warn",
        "timm.models._helpers.torch.load", "timm.models._helpers.load_checkpoint", "timm.models.load_checkpoint",
        "timm.models.load_state_dict", "timm.create_model", "timm.models.save_for_hf", "timm.data.create_dataset",
        "timm.layers.config.os.system", "torchvision.models.get_model", "torchvision.models.resnet18",
        "ft.model.weight_files.read_weights", "ft.model.hub.download_file", "ft.model.weight_files.torch.load",
        "functools.partial", "hydra.utils.call", "hydra.utils.get_method", "pathlib.Path.unlink", "shutil.rmtree",
        "importlib.import_module", "pickle.loads", "yaml.unsafe_load", "plugins.ema.torch.load", "plugins.x.os.system",
    ],
    "data": [
        "torchvision.datasets.CIFAR10", "torchvision.datasets.utils.download_url", "torchvision.io.write_file",
        "torchvision.datasets.utils.download_and_extract_archive", "torchvision.io.read_file",
        "torchvision.datasets.folder.pil_loader", "ft.data.images.open_image", "ft.data.folder.os.system",
        "ft.checkpoint.save.save", "ft.fork.make_fork.make_fork", "ft.cache.folder.remove", "ft.run_folder.write_whole",
        "ft.deploy.push.push", "ft.instantiate.instantiate", "ft.instantiate.import_module", "ft.data.table.csv.reader",
        "ft.data.check.Path", "numpy.load", "joblib.load", "datasets.load_dataset",
    ],
    "task": ["ft.tasks.task.torch.load", "ft.build.run.build", "torchmetrics.Metric", "torch.nn.Linear"],
    "optimizer": [
        "torch.optim.Optimizer.__class__", "torch.optim.optimizer.torch", "torch.optim.lr_scheduler.types.FunctionType",
        "torch.optim.lr_scheduler.LambdaLR", "torch.load", "ft.optim.flat.flatten", "torch.nn.Linear",
        "torch.optim.swa_utils.update_bn",
    ],
    "schedule": ["ft.optim.schedules.count_reductions", "ft.optim.schedules.math.cos", "builtins.print", "math.cos"],
    "plugins.x": [
        "plugins.soup.load_file", "plugins.soup.save_file", "plugins.lr_finder.plt.savefig", "plugins.ema.Plugin",
        "lightning.pytorch.callbacks.ModelCheckpoint", "lightning.pytorch.cli.LightningCLI", "ft.plugin.fold",
        "torch.nn.Linear",
    ],
    "logger.x": [
        "lightning.fabric.utilities.cloud_io._load", "lightning.pytorch.core.saving.load_hparams_from_yaml",
        "lightning.pytorch.core.saving._load_state", "lightning.pytorch.Trainer",
        "lightning.pytorch.loggers.csv_logs.os.makedirs", "lightning.pytorch.loggers.csv_logs._ExperimentWriter",
        "logging.FileHandler", "lightning.pytorch.loggers.tensorboard.get_filesystem",
    ],
    # A part of another value, where only modules are parts.
    "model.head.activation": [
        "torch.nn.init.normal_", "torch.nn.utils.prune.identity", "torchvision.datasets.FakeData",
        "torchmetrics.image.fid.FrechetInceptionDistance", "lightning.pytorch.LightningModule",
        "torchvision.ops.misc.torch.load", "ft.model.timm_model.timm_model", "torch.optim.SGD",
    ],
}  # fmt: skip
# What is no name at all; the look-alikes are of other alphabets.
MISSPELT = [
    "", ".", "..", "torch.nn", "torch.nn.", ".torch.nn.Linear", "torch..nn.Linear", "torch.nn.Linear\n",
    "torch.nn.Lin\u0435ar", "t\u043erch.nn.Linear", "\uff54orch.nn.Linear", "torch.nn.Linear;os.system('x')",
    "torch/nn/Linear", "../torch.nn.Linear", "torch.nn.Linear\0", "plugins.__main__.x", "lightning.__main__.main",
    "torch.nn._reduction.warnings", 7, 7.5, None, True, [], ["torch.nn.Linear"], {"_target_": "torch.nn.Linear"},
    "torch.nn." + "x" * 10_000, "${oc.env:HOME}",
]  # fmt: skip
BY_NAME = [(key, target) for key, targets in ATTACKS.items() for target in targets]


def refused(key: str, target: object) -> str:
    """The message; there is one, of one to three lines."""
    with pytest.raises(UserError) as caught:
        locate(target, key)
    message = str(caught.value)
    assert 1 <= len(message.splitlines()) <= 3, message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize(("key", "target"), BY_NAME)
def test_a_function_that_loads_writes_or_runs_is_refused_at_its_place(key, target):
    assert "_target_=" in refused(key, target)


@pytest.mark.parametrize("target", MISSPELT, ids=lambda target: ascii(target)[:30])
@pytest.mark.parametrize("key", ["model", "plugins.x", "a.b[0]"])
def test_what_is_no_name_is_refused_before_anything_is_imported(key, target):
    assert "is not allowed" in refused(key, target)


def test_what_is_refused_by_its_name_is_not_imported():
    # Importing a module runs it.
    outside = [target for key, target in BY_NAME if not is_allowed_name(target, key)]
    assert len(outside) >= 40
    before = set(sys.modules)
    for key, target in BY_NAME:
        if target in outside:
            refused(key, target)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"model": {"deep": [[{"x": {"_target_": "os.system"}}]]}}, r"model.deep\[0\]\[0\].x._target_=os.system"),
        ({"plugins": [{"_target_": "os.system"}]}, r"plugins\[0\]._target_=os.system"),
        ({"_target_": "os.system"}, "_target_=os.system"),
        ({"hydra": {"launcher": {"_target_": "os.system"}}}, "hydra.launcher._target_=os.system"),
        ({"trainer": {"profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler"}}}, "is not allowed"),
        ({"model": {"_target_": "torch.nn.Linear", "_partial_": True}}, "model._partial_ is not allowed"),
        ({"model": {"_target_": "torch.nn.Linear", "_args_": [1, 2]}}, "model._args_ is not allowed"),
        ({"model": {"_target_": "torch.nn.Linear", "_recursive_": False}}, "model._recursive_ is not allowed"),
        ({"model": {"_target_": "torch.nn.Linear", "_convert_": "all"}}, "model._convert_ is not allowed"),
    ],
)
def test_the_whole_tree_is_looked_at(tree, told):
    with pytest.raises(UserError, match=told):
        check_targets(tree)


@pytest.mark.parametrize(
    "words",
    [
        ("model._target_=os.system",),
        ("optimizer._target_=torch.load",),
        pytest.param(("data._target_=torchvision.datasets.utils.download_url",), marks=pytest.mark.full),
        pytest.param(("task._target_=ft.build.run.build",), marks=pytest.mark.full),
        pytest.param(("schedule._target_=builtins.print",), marks=pytest.mark.full),
        pytest.param(("+plugins.x._target_=plugins.soup.load_file",), marks=pytest.mark.full),
        ("+logger.x._target_=lightning.fabric.utilities.cloud_io._load",),
        ("+model.kwargs.x={_target_:os.system}",),
        pytest.param(("+trainer.callbacks=[{_target_:os.system}]",), marks=pytest.mark.full),
        pytest.param(("+model._partial_=true",), marks=pytest.mark.full),
    ],
    ids=lambda words: words[0],
)
def test_the_command_line_cannot_name_anything_else(words, tmp_path):
    from ft.build.run import build

    with (
        composed(*TINY, f"runs_dir='{tmp_path}'", *words) as config,
        pytest.raises(UserError, match=r"is not allowed|is not a"),
    ):
        build(config)
    assert not any(tmp_path.iterdir())


# Of an optimizer and a schedule it needs none: only their spelling is looked at.
@pytest.mark.parametrize(
    ("section", "target"),
    [
        *((key, target) for key in ("model", "task", "plugins.x") for target in ATTACKS[key][:2]),
        *(
            pytest.param(key, target, marks=pytest.mark.full)
            for key in ("model", "task", "plugins.x")
            for target in ATTACKS[key][2:]
        ),
        ("optimizer", "torch.load"),
        ("schedule", "builtins.print"),
        ("logger.x", "logging.FileHandler"),
        ("data", "torchvision.io.write_file"),
        ("model.head.activation", "torchvision.datasets.FakeData"),
    ],
)
def test_a_run_folders_config_cannot_name_anything_else(a_run, tmp_path, section, target):
    folder = planted(a_run, tmp_path, {section: target})
    with pytest.raises(UserError) as caught:
        load_predictor(folder)
    assert "_target_=" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_resumed_run_cannot_either(a_run, tmp_path):
    from ft.build.run import build

    folder = planted(a_run, tmp_path, {"optimizer": "torch.load"})
    with (
        composed(f"runs_dir='{tmp_path}'", f"resume='{folder.path}'") as config,
        pytest.raises(UserError, match=r"torch\.load"),
    ):
        build(config)


def planted(run: RunFolder, place: Path, targets: dict[str, str]) -> RunFolder:
    """A copy of a run folder's config with other targets."""
    import shutil

    folder = RunFolder(place / "planted")
    shutil.copytree(run.path, folder.path, symlinks=True)
    content = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    for key, target in targets.items():
        at = content
        for name in key.split("."):
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        at["_target_"] = target
    folder.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.fixture
def fork_package(monkeypatch):
    """An installed package of a fork, with an ``ft.conf`` entry point, whose module imports what is dangerous."""
    import os

    import torch

    module = ModuleType("fork_package.parts")
    module.__dict__.update(system=os.system, load=torch.load, Path=Path)
    code = """
from torch import nn, optim
from ft import Plugin
from ft.data.source import Source
class Model(nn.Module): pass
class Mine(Plugin): pass
class Best(optim.SGD): pass
def source() -> Source: ...
def unannotated(): ...
def wrong() -> int: ...
instance = Mine()
"""
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "fork_package", ModuleType("fork_package"))
    monkeypatch.setitem(sys.modules, "fork_package.parts", module)
    monkeypatch.setattr(allowed_targets, "own_packages", lambda: ("plugins", "fork_package"))


@pytest.mark.parametrize(
    ("key", "name"),
    [("model", "Model"), ("plugins.mine", "Mine"), ("optimizer", "Best"), ("data", "source"), ("data", "unannotated")],
)
def test_a_forks_own_code_is_accepted_where_it_belongs(fork_package, key, name):
    assert locate(f"fork_package.parts.{name}", key).__name__ == name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("model", "system"), ("model", "load"), ("data", "Path"), ("data", "wrong"), ("model", "Mine"),
        ("plugins.mine", "Model"), ("optimizer", "Model"), ("data", "instance"), ("data", "nothing"),
    ],
)  # fmt: skip
def test_what_a_forks_module_imports_or_has_for_another_place_is_refused(fork_package, key, name):
    refused(key, f"fork_package.parts.{name}")


def test_everything_that_conf_names_is_accepted_and_can_be_located():
    checked = set()
    for file in sorted((ROOT / "conf").rglob("*.yaml")):
        section = file.parent.name
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        if not isinstance(content, dict) or section == "sweeper":
            continue
        entries = {section: content} if "_target_" in content else dict(content)
        for key, entry in entries.items():
            if not isinstance(entry, dict) or "_target_" not in entry:
                continue
            where = f"{key}.{file.stem}" if key in ("plugins", "logger") else key
            target = entry["_target_"]
            assert is_allowed_name(target, where), (file, target)
            if where.startswith("logger."):
                continue  # Their packages are extras.
            assert is_allowed(locate(target, where), where)
            checked.add(target)
    assert len(checked) > 40
    assert own_packages()[0] == "plugins"


def test_parts_that_are_torch_modules_are_built():
    stack = instantiate({"_target_": "torch.nn.ModuleDict", "modules": {"_target_": "torch.nn.ModuleDict"}}, "model")
    assert type(stack).__name__ == "ModuleDict"
