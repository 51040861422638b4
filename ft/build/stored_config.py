"""Reading the ``config.yaml`` of a run folder, which may be anybody's: plain values, and nothing that does anything.

A run writes its config resolved, so there is nothing left in it to look up: an interpolation such as ``${oc.env:KEY}``
would read this machine's environment into the run.
"""

import io
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ft.errors import UserError

MOST_BYTES, MOST_LEVELS = 2**20, 30
SECTIONS = ("data", "model", "task", "optimizer", "schedule", "trainer")
# In C where PyYAML was built with it: twenty times as fast.
EVENTS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_config(file: Path) -> DictConfig:
    """The config of a run.

    Raises:
        UserError: The file cannot be read, is not YAML, is not the config of a run, or holds more than plain values.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file} is not the config of a run: it is larger than {MOST_BYTES:,} bytes.")
        text = file.read_text(encoding="utf-8")
        _check_shape(text, file)
        config = OmegaConf.load(io.StringIO(text))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, OmegaConfBaseException, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is damaged: {' '.join(str(error).split())[:300]}") from None
    absent = [name for name in SECTIONS if not isinstance(config, DictConfig) or not _is_section(config, name)]
    if absent:
        raise UserError(f"{file} is not the config of a run: it has no section {absent[0]}.")
    assert isinstance(config, DictConfig)
    _refuse_interpolations(OmegaConf.to_container(config, resolve=False), "", file)
    return config


def _check_shape(text: str, file: Path) -> None:
    """Before anything is built: ten lines of aliases can be a thousand million values."""
    level = 0
    for event in yaml.parse(text, Loader=EVENTS):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{file} is not the config of a run: it holds a YAML alias, *{event.anchor}.")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            raise UserError(f"{file} is not the config of a run: it holds a YAML tag, {event.tag}.")
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            raise UserError(f"{file} is not the config of a run: it is nested more than {MOST_LEVELS} levels deep.")


def _is_section(config: DictConfig, name: str) -> bool:
    return isinstance(config._get_node(name), DictConfig)


def _refuse_interpolations(content: Any, key: str, file: Path) -> None:
    if isinstance(content, dict):
        for name, value in content.items():
            _refuse_interpolations(value, f"{key}.{name}".lstrip("."), file)
    elif isinstance(content, list):
        for at, value in enumerate(content):
            _refuse_interpolations(value, f"{key}[{at}]", file)
    elif isinstance(content, str) and ("${" in content or content == "???"):
        raise UserError(f"{file}: {key} is {content[:80]!r}, and a run's config has plain values only.")
