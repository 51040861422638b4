"""Mistakes on the command line, in the user's words: the nearest right name, the choices, how to quote."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from ft.command.keys import Keys
from ft.command.places import place_of
from ft.errors import did_you_mean

# What Hydra's grammar can call.
FUNCTIONS = (
    "choice", "range", "interval", "glob", "tag", "sort", "shuffle", "int", "float", "str", "bool", "json_str",
    "extend_list",
)  # fmt: skip
GRAMMAR = set("(){}[],:=\\'\" \t")

# Hydra launcher -> our name for it, which is that of the extra that brings it
LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def explain(error: Exception, conf: Path, config_name: str, words: Sequence[str] = ()) -> str:
    """One to three lines for an error of Hydra's or OmegaConf's.

    Args:
        error: What was raised while the config was composed.
        conf: The folder of configs.
        config_name: The config that was asked for.
        words: Of the command line.
    """
    where = _file_of(str(error))
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
                f"{group}={choice} is not a choice.{did_you_mean(choice, options)}"
                f"{place_of(rf'{re.escape(group)}: *{re.escape(choice)}', conf, words)}\n"
                f"{group} can be {', '.join(options) or 'nothing: it has no configs'}."
            )
    if found := re.search(r"Could not override '([^']+)'", str(error)):
        return where + _explain_key(found[1].partition("@")[0], Keys(conf, config_name, words), conf)
    if found := re.search(r"Could not delete from config. '([^']+)' does not exist", str(error)):
        return f"~{found[1]}: there is no such key.{_either(Keys(conf, config_name, words).nearest(found[1]))}"
    if found := re.search(r"Ambiguous value for argument '([^=]+)=([^']*)'", str(error)):
        return (
            f"{found[1]}={found[2]} has several values: add -m for a sweep,\n"
            f"or write {found[1]}=[{found[2]}] for a list, or '{found[1]}=\"{found[2]}\"' for one value with a comma."
        )
    cause = error.__cause__
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error, conf, words)
    if isinstance(cause, OmegaConfBaseException):
        return f"{_first(error)} {explain_value(cause, conf, words)}".strip()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n".join([line for line in lines if not re.match(r"(full_key|object_type)\b", line)][:3])


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


def _file_of(message: str) -> str:
    """``conf/experiment/mine.yaml: `` where Hydra says that it was there, and not on the command line."""
    found = re.search(r"In '([^']+/[^']+)'", message)
    return f"conf/{found[1]}.yaml: " if found else ""


def _first(error: Exception) -> str:
    return next((f"{line.strip()}:" for line in str(error).splitlines() if line.strip()), "")


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
    called = re.match(r"(\w+)\(", value)
    if called and called[1] not in FUNCTIONS and (hint := did_you_mean(called[1], FUNCTIONS)):
        return f"{key}={value}: Hydra has no {called[1]}(...).{hint}"
    if value.startswith("[") and value.endswith("]"):
        entries = ",".join(f'"{entry.strip()}"' for entry in value[1:-1].split(","))
        return (
            f"{key}={value}: Hydra reads its entries as its own grammar.\n"
            f"Quote each, and the whole: '{key}=[{entries}]'"
        )
    odd = " ".join(sorted(GRAMMAR & set(value) - {" "}))
    return (
        f"{key}: Hydra reads {odd or 'some characters'} in {value} as its own grammar.\n"
        f"Quote the value twice, once for the shell: '{key}=\"{value}\"'"
    )


def _explain_key(key: str, keys: Keys, conf: Path) -> str:
    group, _, inner = key.partition(".")
    if brought := keys.brought_by(key, conf):
        if group == "plugins":
            name = brought[0]
            return f"{key}: the plugin {name} is not on. Switch it on with plugins=[{name}], or +plugins={name}."
        return (
            f"the present {group} has no {inner}; {group}={' and '.join(brought)} "
            f"{'have' if brought[1:] else 'has'} it.\nTo give it to this one all the same, write +{key}=VALUE."
        )
    if key in keys.sections:
        return f"{key} is given a group with a key that it does not have.\nTo add one, write '+{key}.NAME=VALUE'."
    hint = _either(keys.nearest(key))
    return f"there is no config key {key}.{hint}\nTo add a new key, write +{key}=VALUE; --cfg job shows all."


def _either(keys: Sequence[str]) -> str:
    return f" Did you mean {' or '.join(keys)}?" if keys else ""


def explain_value(error: OmegaConfBaseException, conf: Path, words: Sequence[str]) -> str:
    """What OmegaConf says in its first line, behind the key, with the place in a file if there is one."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    key = error.full_key or ""
    where = ""
    if found := re.search(r"Interpolation key '([^']+)'|interpolation type (\S+)", said):
        where = place_of(r"\$\{" + re.escape(found[1] or found[2]), conf, words)
    elif "Missing mandatory value" in said:
        leaf = key.rpartition(".")[2]
        where = place_of(rf"\b{re.escape(leaf)}:\s*\?\?\?", conf, words)
        return f"{key} has no value yet: set {key}=VALUE.{where}"
    return f"{key}: {said}{where}" if key and key not in said else f"{said}{where}"


def _options(conf: Path, group: str) -> list[str]:
    with initialize_config_dir(str(conf), version_base="1.3"):
        return GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG)
