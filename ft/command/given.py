"""Values of a composed config, checked before the verb imports what it needs: seconds, and no data is touched."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ft.errors import UserError, did_you_mean
from ft.rules.check import check_values
from ft.run_folder import RunFolder

# Sections of which every key is read by ft itself: one that no config of ours has would be read by nobody.
CLOSED = (
    "",
    "recipe",
    "cache",
    "sweep",
    "checkpoint",
    "on_nan_limits",
    "model.head",
    "model.input",
    "data.suggested",
    "limits",
    "onnx",
    "pt2",
)
# Of the verbs that go nowhere without a run, what run may be.
RUN = {
    "evaluate": "RUN_FOLDER, or run=last",
    "export": "RUN_FOLDER, or run=last",
    "predict": "RUN_FOLDER, or run=last",
    "serve": "RUN_FOLDER, run=last, or run=EXPORTED_FOLDER",
}
# Choices that change values of others, and cannot bring new ones.
ON_TOP = ("experiment", "debug")


def check_given(config: DictConfig, config_name: str) -> None:
    """Refuses values that no run could begin with, and keys that nobody reads.

    Raises:
        UserError: Names the key, the value and what it must be.
        OmegaConfBaseException: A value is missing, or refers to one that is not there.
    """
    resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    _check_packages(resolved)
    loader = GlobalHydra.instance().config_loader()
    given = OverridesParser.create(config_loader=loader).parse_overrides(list(HydraConfig.get().overrides.task))
    known_groups = set(HydraConfig.get().runtime.choices)
    values = [each for each in given if each.key_or_group not in known_groups]
    on_top = [name for name in ON_TOP if HydraConfig.get().runtime.choices.get(name)]
    # Plugins have their own rules: their constructors' annotations, which know of null and lists.
    plain = [each for each in values if not each.is_add() and not each.key_or_group.startswith("plugins.")]
    if plain or on_top:
        choices = [each for each in given if each not in values and each.input_line and "=" in each.input_line]
        below = [each.input_line or "" for each in choices if each.key_or_group not in on_top]
        defaults = loader.load_configuration(config_name, [*below, *_overridden(on_top, below)], run_mode=RunMode.RUN)
        for key in (each.key_or_group for each in plain):
            if wrong := _kind_mismatch(OmegaConf.select(defaults, key), OmegaConf.select(config, key)):
                value = OmegaConf.select(config, key)
                hint = did_you_mean(str(value), ("true", "false")) if wrong == "true or false" else ""
                raise UserError(f"{key} must be {wrong}, got {value!r}.{hint}")
        for key in (*resolved, *(each.key_or_group for each in plain)):
            section = OmegaConf.select(defaults, key)
            if (
                isinstance(section, DictConfig)
                and section
                and not isinstance(OmegaConf.select(config, key), DictConfig)
            ):
                value = OmegaConf.select(config, key)
                raise UserError(f"{key} must be a group of keys and values, got {value!r}. Set single ones.")
        added = {each.key_or_group for each in values if each.is_add() or each.is_force_add()}
        for key in _unknown(resolved, defaults) if on_top else ():
            if not any(key == each or each.startswith(f"{key}.") for each in added):
                known = [str(each) for each in OmegaConf.select(defaults, key.rpartition(".")[0] or "@") or defaults]
                raise UserError(
                    f"{_files(on_top)}: there is no config key {key}.{did_you_mean(key.rpartition('.')[2], known)}"
                )
    check_values(resolved, config_name)
    _check_run(resolved, config_name)


def _check_run(config: dict[str, Any], config_name: str) -> None:
    """Whether the run is there that is asked for."""
    run = config.get("run")
    if run is None and config_name in RUN and not config.get("dry"):
        raise UserError(f"ft.{config_name} needs run={RUN[config_name]}.")
    # An exported folder may stand in its place; what is in a folder, the verb says.
    if isinstance(run, str) and not Path(run).expanduser().is_dir() and not config.get("dry"):
        RunFolder.find(run, runs_dir=config["runs_dir"], key="run")


def _check_packages(config: dict[str, Any]) -> None:
    """Of YAML files that land where nobody looks, as their first line does not say where they belong."""
    for group in ON_TOP:
        if isinstance(config.get(group), dict):
            name = HydraConfig.get().runtime.choices.get(group)
            raise UserError(f"conf/{group}/{name}.yaml needs '# @package _global_' as its first line.")
    for group in ("plugins", "logger"):
        if isinstance(config.get(group), dict) and "_target_" in config[group]:
            target = config[group]["_target_"]
            name = str(target).split(".")[-2:-1] or [group]
            raise UserError(
                f"conf/{group}/NAME.yaml with _target_={target} needs '# @package {group}.NAME' as its first line,\n"
                f"with its own name: '# @package {group}.{name[0]}'."
            )


def _overridden(on_top: list[str], below: list[str]) -> Iterator[str]:
    """The choices that an experiment has made, said without it."""
    said = {word.lstrip("+").partition("=")[0] for word in below}
    yield from (word for word in HydraConfig.get().overrides.hydra if word.startswith("hydra.searchpath="))
    for group, choice in HydraConfig.get().runtime.choices.items():
        if isinstance(choice, str) and "/" not in group and "@" not in group and group not in (*said, *ON_TOP, *LISTS):
            yield f"{group}={choice}"


# Their choices bring keys of their own sections alone.
LISTS = ("plugins", "logger", "data_optimizer", "hydra_settings")


def _unknown(config: dict[str, Any], defaults: DictConfig) -> Iterator[str]:
    for section in CLOSED:
        here: Any = config
        for part in section.split(".") if section else ():
            here = here.get(part) if isinstance(here, dict) else None
        known = OmegaConf.select(defaults, section) if section else defaults
        if isinstance(here, dict) and isinstance(known, DictConfig):
            for name in here:
                if name not in known:
                    yield f"{section}.{name}".lstrip(".")


def _files(on_top: list[str]) -> str:
    return ", ".join(f"conf/{group}/{HydraConfig.get().runtime.choices[group]}.yaml" for group in on_top)


def _kind_mismatch(default: Any, given: Any) -> str | None:
    """What the value should have been, or ``None`` if it is right; the default's kind is the rule."""
    if isinstance(default, bool):
        return None if isinstance(given, bool) else "true or false"
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if isinstance(default, int):
        return None if is_number and float(given).is_integer() else "a whole number"
    if isinstance(default, float):
        return None if is_number else "a number"
    return None
