"""Mistakes on the command line, in the user's words: the nearest right name, the choices, how to quote."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ft.errors import UserError, did_you_mean, nearest

GRAMMAR = set("(){}[],:=\\'\" \t")

# Hydra launcher -> our name for it, which is that of the extra that brings it
LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def explain(error: Exception, conf: Path, config_name: str) -> str:
    """One to three lines for an error of Hydra's or OmegaConf's.

    Args:
        error: What was raised while the config was composed.
        conf: The folder of configs.
        config_name: The config that was asked for.
    """
    if isinstance(error, OverrideParseException):
        return _explain_grammar(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and choice in LAUNCHERS:
            extra = LAUNCHERS[choice]
            # hydra-ray-launcher 1.2.2 asks for cloudpickle<3 and aiohttp<4; it runs with newer ones.
            alone = " && pip install --no-deps hydra-ray-launcher" if extra == "ray" else ""
            return f"launcher={extra} needs the extra {extra}: pip install -c constraints.txt -e '.[{extra}]'{alone}"
        if group == "experiment/best_of":
            return _explain_winner(conf, choice)
        if group:
            options = _options(conf, group)
            return (
                f"{group}={choice} is not a choice.{did_you_mean(choice, options)}\n"
                f"{group} can be {', '.join(options) or 'nothing: it has no configs'}."
            )
    if found := re.search(r"Could not override '([^']+)'", str(error)):
        return _explain_key(found[1], conf, config_name)
    if found := re.search(r"Ambiguous value for argument '([^=]+)=([^']*)'", str(error)):
        return (
            f"{found[1]}={found[2]} has several values: add -m for a sweep,\n"
            f"or write {found[1]}=[{found[2]}] for a list, or '{found[1]}=\"{found[2]}\"' for one value with a comma."
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[:3])


def bracketed(words: Sequence[str], lists: Sequence[str]) -> list[str]:
    """``key=a,b``, which Hydra takes for a sweep, as ``key=[a,b]``; other words, and all of a sweep, as they are.

    Args:
        words: Of the command line.
        lists: Keys whose values are lists.
    """
    if {"-m", "--multirun"} & set(words):
        return list(words)
    return [
        f"{key}=[{value}]" if key in lists and re.fullmatch(r"[\w,-]+", value) and "," in value else word
        for word in words
        for key, _, value in [word.partition("=")]
    ]


def check_types(config: DictConfig, config_name: str) -> None:
    """Refuses text where the default is a number or a yes or no.

    Raises:
        UserError: Names the key, the value and the kind that is wanted.
    """
    loader = GlobalHydra.instance().config_loader()
    given = OverridesParser.create(config_loader=loader).parse_overrides(list(HydraConfig.get().overrides.task))
    known_groups = set(loader.list_groups(""))  # walks through all folders of configs
    # Plugins have their own rules: their constructors' annotations, which know of null and lists.
    values = [
        each
        for each in given
        if each.key_or_group not in known_groups and not each.is_add() and not each.key_or_group.startswith("plugins.")
    ]
    if not values:
        return
    groups = [each.input_line for each in given if each not in values and each.input_line]
    defaults = loader.load_configuration(config_name, [g for g in groups if "=" in g], run_mode=RunMode.RUN)
    for key in (each.key_or_group for each in values):
        if each_wrong := _kind_mismatch(OmegaConf.select(defaults, key), OmegaConf.select(config, key)):
            raise UserError(f"{key} must be {each_wrong}, got {OmegaConf.select(config, key)!r}.")


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


def _explain_winner(conf: Path, name: str) -> str:
    sweeps = _options(conf, "experiment/best_of")
    if not sweeps:
        return (
            f"experiment=best_of/{name}: no sweep below runs_dir has a winner yet.\n"
            "If it is elsewhere, set runs_dir to where it was."
        )
    return (
        f"experiment=best_of/{name}: there is no such sweep below runs_dir.{did_you_mean(name, sweeps)}\n"
        f"It can be best_of/ and one of {', '.join(sweeps)}."
    )


def _explain_grammar(override: str | None) -> str:
    key, equals, value = (override or "").partition("=")
    if not equals:
        return f"{override!r} is not key=value. If it belongs to the value before it, quote the whole: 'key=\"a b\"'."
    odd = " ".join(sorted(GRAMMAR & set(value) - {" "}))
    return (
        f"{key}: Hydra reads {odd or 'some characters'} in {value} as its own grammar.\n"
        f"Quote the value twice, once for the shell: '{key}=\"{value}\"'"
    )


def _explain_key(key: str, conf: Path, config_name: str) -> str:
    with initialize_config_dir(str(conf), version_base="1.3"):
        known = list(_keys(compose(config_name)))
        groups = GlobalHydra.instance().config_loader().list_groups("")
    names = list(dict.fromkeys([*known, *(group for group in groups if group != "hydra")]))
    parent, _, leaf = key.rpartition(".")
    siblings = [name for name in names if name.rpartition(".")[0] == parent]
    found = (
        [name for name in names if name.rpartition(".")[2] == leaf][:3]
        or [f"{parent}.{near}".lstrip(".") for near in nearest(leaf, [name.rpartition(".")[2] for name in siblings])]
        or nearest(key, names)
    )
    hint = f" Did you mean {' or '.join(found)}?" if found else ""
    return f"there is no config key {key}.{hint}\nTo add a new key, write +{key}=VALUE; --cfg job shows all."


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for name, value in config.items_ex(resolve=False) if isinstance(config, DictConfig) else ():
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")


def _options(conf: Path, group: str) -> list[str]:
    with initialize_config_dir(str(conf), version_base="1.3"):
        return GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG)
