"""``resume=RUN key=value``: any key of that run may be changed, also one that the defaults have not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from ft.command.search_path import runs_dir_of


def changing_a_run(words: Sequence[str]) -> list[str]:
    """The words with ``++`` before keys that the run to be resumed has; without such a run, as they are.

    Hydra composes the defaults, which know nothing of the plugins and the data of another run.

    Args:
        words: Of the command line.
    """
    config = _config_of_run(words)
    return [f"++{word}" if _has(config, word) else word for word in words]


def _config_of_run(words: Sequence[str]) -> Any:
    named = [word for word in words if word.startswith("resume=")]
    if not named or {"-m", "--multirun"} & set(words):
        return None
    try:
        run = OverridesParser.create().parse_override(named[-1]).value()
        # As ft.run_folder finds it, which says what is wrong with it.
        for place in (Path(str(run)).expanduser(), Path(runs_dir_of(words)).expanduser() / str(run)):
            if (place / "config.yaml").is_file():
                return yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
    except (HydraException, OSError, ValueError, yaml.YAMLError):
        pass
    return None


def _has(config: Any, word: str) -> bool:
    key, equals, _ = word.partition("=")
    if not equals or "." not in key:
        return False
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            return False
        config = config[part]
    return True
