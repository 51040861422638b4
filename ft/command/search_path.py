"""Configs of installed packages: each entry point in the group ``ft.conf`` names a package of YAML files.

[project.entry-points."ft.conf"]
my_plugins = "my_plugins.conf"          # holds plugins/my_plugin.yaml
"""

from importlib.metadata import entry_points

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin


class InstalledConfigs(SearchPathPlugin):
    """Appends them to Hydra's search path, behind our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for entry in entry_points(group="ft.conf"):
            search_path.append(provider=entry.name, path=f"pkg://{entry.value}")


def register() -> None:
    """Tells Hydra; repeated calls are harmless."""
    Plugins.instance().register(InstalledConfigs)
