"""Configs from elsewhere: of installed packages, and the winners of sweeps.

Each entry point in the group ``ft.conf`` names a package of YAML files:

[project.entry-points."ft.conf"]
my_plugins = "my_plugins.conf"          # holds plugins/my_plugin.yaml

RUNS_DIR/sweeps/experiment/best_of/NAME.yaml, for experiment=best_of/NAME, is written by a sweep.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin

from ft.command.winners import WinnersSource


class InstalledConfigs(SearchPathPlugin):
    """Appends them to Hydra's search path, behind our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for entry in entry_points(group="ft.conf"):
            search_path.append(provider=entry.name, path=f"pkg://{entry.value}")


class WinnersOfSweeps(SearchPathPlugin):
    """Likewise."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        folder = winners(sys.argv[1:])
        if folder is not None:
            search_path.append(provider="sweeps", path=f"{WinnersSource.scheme()}://{folder}")


def winners(words: Sequence[str]) -> Path | None:
    """The folder below which sweeps leave ``experiment/best_of``, if one has.

    Args:
        words: Of the command line; ``runs_dir=`` is among them, or the default counts.
    """
    folder = Path(runs_dir_of(words)).expanduser().absolute() / "sweeps"
    return folder if (folder / "experiment").is_dir() else None


def runs_dir_of(words: Sequence[str]) -> str:
    given = [word for word in words if word.startswith("runs_dir=")]
    if not given:
        return _default_runs_dir()
    try:
        return str(OverridesParser.create().parse_override(given[-1]).value())
    except HydraException:
        # Hydra says what is wrong with it, as soon as it composes.
        return _default_runs_dir()


def _default_runs_dir() -> str:
    defaults = Path(__file__).parent.parent.parent / "conf" / "train.yaml"
    return yaml.safe_load(defaults.read_text(encoding="utf-8"))["runs_dir"]


def register() -> None:
    """Tells Hydra; repeated calls are harmless."""
    for plugin in (WinnersSource, InstalledConfigs, WinnersOfSweeps):
        Plugins.instance().register(plugin)
