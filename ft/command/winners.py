"""``experiment=best_of/NAME``: the file of a sweep's winner, of whatever folder ``runs_dir`` is.

Nothing else below that folder is a config, and the file chooses and sets what a run is: never ``hydra``, whose section
names classes that Hydra builds and calls by itself.
"""

import re
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import OmegaConf

from ft.errors import UserError

GROUPS = ("", "experiment", "experiment/best_of")
PACKAGE = "_global_"


class WinnersSource(FileConfigSource):
    """Configs of ``experiment/best_of``, below a folder."""

    @staticmethod
    def scheme() -> str:
        return "winners"

    def load_config(self, config_path: str) -> ConfigResult:
        """Reads one.

        Raises:
            ConfigLoadError: It is of another group.
            UserError: It sets, or chooses, something of Hydra's own.
        """
        if not self._is_winner(config_path):
            raise ConfigLoadError(f"Config not found : {config_path}")
        found = super().load_config(config_path)
        refuse_hydra(OmegaConf.to_container(found.config, resolve=False), found.header, config_path)
        return found

    def is_group(self, config_path: str) -> bool:
        return config_path in GROUPS and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        return self._is_winner(config_path) and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return super().list(config_path, results_filter) if config_path in GROUPS else []

    @staticmethod
    def _is_winner(config_path: str) -> bool:
        return re.fullmatch(r"experiment/best_of/[^/\\]+", config_path) is not None


def refuse_hydra(content: Any, header: dict[str, str | None], name: str) -> None:
    """Refuses an experiment that says anything of Hydra's own section.

    Args:
        content: The file, unresolved.
        header: Of the file: ``package``.
        name: For the message.

    Raises:
        UserError: It does, or is no experiment.
    """
    if not isinstance(content, dict):
        raise UserError(f"{name}.yaml is damaged: it holds no keys and values.")
    keys = {str(key).partition("@")[0].partition(".")[0] for key in content}
    entries = content.get("defaults") or []
    chosen = [str(entry) for entry in (entries if isinstance(entries, list) else [entries])]
    # An interpolation in the list, or another package, could put anything anywhere.
    odd = [word for word in chosen if re.search(r"\bhydra\b|\$\{|@", word)]
    if "hydra" in keys or odd or (header.get("package") or PACKAGE) != PACKAGE:
        raise UserError(
            f"{name}.yaml sets {odd[0][:80] if odd else 'hydra'}, and the winner of a sweep only says what a run is: "
            "hydra's own keys are only taken from the command line and from conf/."
        )
