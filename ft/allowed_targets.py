"""What a ``_target_`` may name: it depends on where in the config it stands.

    place            below which packages               what it has to be
    task             ft.tasks                           a Task
    data             ft.data                            a function that returns a Source
    model            ft.model, parts of models          a torch module
    optimizer        torch.optim, ft.optim, timm.optim  an optimizer
    schedule         ft.optim.schedules                 a function that returns a float
    plugins.NAME     plugins                            an ft.Plugin
    logger.NAME      lightning.pytorch.loggers          one of Lightning's loggers
    anything deeper  parts of models                    a torch module

A whole library would be too much: timm, lightning and torchvision define functions that load pickles, write files and
download archives, and so does ft. The fork's own packages (``plugins``, those with an ``ft.conf`` entry point, and
``[tool.ft] allowed_targets``) may stand everywhere. The list never comes from the composed config, the command line or
a checkpoint.
"""

import inspect
import tomllib
import typing
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

CONFIG_PACKAGES = "ft.conf"
OWN = ("plugins",)
LONGEST = 200
ROOT = Path(__file__).parent.parent
PARTS = (
    "torch.nn",
    "timm.layers",
    "timm.loss",
    "torchvision.ops",
    "torchvision.transforms",
    "torchmetrics.classification",
    "torchmetrics.regression",
)


@dataclass(frozen=True)
class Place:
    """A kind of place in the config.

    Attributes:
        packages: Import prefixes, besides the fork's own.
        gives: Module and name of the class that a target is, or whose object a function returns.
        words: What that is, for messages.
    """

    packages: tuple[str, ...]
    gives: tuple[str, str]
    words: str


PLACES = {
    "task": Place(("ft.tasks",), ("ft.tasks.task", "Task"), "a Task"),
    "data": Place(("ft.data",), ("ft.data.source", "Source"), "a function that returns an ft.Source"),
    "model": Place(("ft.model", *PARTS), ("torch.nn", "Module"), "a torch module"),
    "optimizer": Place(("torch.optim", "ft.optim", "timm.optim"), ("torch.optim", "Optimizer"), "an optimizer"),
    "schedule": Place(("ft.optim.schedules",), ("builtins", "float"), "a function that returns a float"),
    "plugins.": Place((), ("ft.plugin", "Plugin"), "an ft.Plugin"),
    "logger.": Place(
        ("lightning.pytorch.loggers",), ("lightning.pytorch.loggers.logger", "Logger"), "one of Lightning's loggers"
    ),
}
ELSEWHERE = Place(PARTS, ("torch.nn", "Module"), "a torch module")


def place_of(key: str) -> Place:
    """The kind of place that a key of the config is.

    Args:
        key: Of the mapping that holds ``_target_``: ``task``, ``plugins.ema``, ``model.act``, ``plugins.ema.parts[0]``.
    """
    section, dot, rest = key.partition(".")
    return ELSEWHERE if "." in rest or "[" in rest else PLACES.get(section + dot, ELSEWHERE)


@cache
def own_packages() -> tuple[str, ...]:
    """Import prefixes of the fork's own code: ``plugins``, installed config packages, and its list."""
    installed = tuple(entry.value.partition(".")[0] for entry in entry_points(group=CONFIG_PACKAGES))
    project = ROOT / "pyproject.toml"
    listed = (
        tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {}).get("ft", {}) if project.is_file() else {}
    )
    return (*OWN, *installed, *listed.get("allowed_targets", ()))


def allowed_packages(key: str) -> tuple[str, ...]:
    """Import prefixes that a target at this key may have."""
    return (*place_of(key).packages, *own_packages())


def is_allowed_name(target: Any, key: str) -> bool:
    """Whether a target is spelled like the path of something public below an allowed package; imports nothing."""
    if not isinstance(target, str) or not target.isascii() or len(target) > LONGEST:
        return False
    parts = target.split(".")
    spelled = all(part.isidentifier() and not part.startswith("_") for part in parts)
    return spelled and within(target.rpartition(".")[0], allowed_packages(key))


def is_allowed(found: Any, key: str) -> bool:
    """Whether what a target names is defined in an allowed package, and is what has to stand at this key.

    A function is taken at its word: at the annotation of what it returns. One of the fork's own may say nothing.
    """
    is_class = inspect.isclass(found)
    home = getattr(found, "__module__", None) or ""
    if not (is_class or inspect.isfunction(found)) or not within(home, allowed_packages(key)):
        return False
    is_own = within(home, own_packages())
    if is_own and place_of(key) is ELSEWHERE:
        return True
    module, name = place_of(key).gives
    wanted = getattr(import_module(module), name)
    if is_class:
        return issubclass(found, wanted)
    returned = _returned(found)
    return is_own if returned is None else inspect.isclass(returned) and issubclass(returned, wanted)


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of these packages, or below one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _returned(function: Any) -> Any:
    """The class a function says it returns; ``None`` where it says nothing, or something that only a checker knows."""
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None
