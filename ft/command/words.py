"""Words of a command line that are not ``key=value``: told how they are written here, before Hydra sees them."""

from collections.abc import Sequence
from pathlib import Path

from ft.command.keys import Keys
from ft.errors import UserError, nearest

# Hydra's options; behind those with true stands a word.
OPTIONS = {
    "--help": False, "-h": False, "--hydra-help": False, "--version": False, "--resolve": False, "--run": False,
    "-r": False, "--multirun": False, "-m": False, "--shell-completion": False, "-sc": False, "--cfg": True, "-c": True,
    "--package": True, "-p": True, "--config-path": True, "-cp": True, "--config-name": True, "-cn": True,
    "--config-dir": True, "-cd": True, "--experimental-rerun": True, "--info": True, "-i": True,
}  # fmt: skip


def check_words(words: Sequence[str], conf: Path, config_name: str) -> None:
    """Refuses the first that Hydra could not read.

    Args:
        words: Of the command line.
        conf: The folder of configs.
        config_name: The config that was asked for.

    Raises:
        UserError: Shows the word as it is written here.
    """
    before = ""
    for at, word in enumerate(words):
        if OPTIONS.get(before) and "=" not in word:
            before = ""
        elif word.startswith("-") and word.partition("=")[0] not in OPTIONS:
            raise UserError(_with_dashes(word, words[at + 1 :], Keys(conf, config_name, words)))
        elif word.startswith("=") or (not word.startswith("-") and "=" not in word and not word.startswith("~")):
            raise UserError(_without_equals(words, at, Keys(conf, config_name, words)))
        elif word.endswith("=") and words[at + 1 : at + 2] and "=" not in words[at + 1]:
            raise UserError(f"{word} {words[at + 1]} is written without spaces: {word}{words[at + 1]}")
        else:
            before = word


def options_first(words: Sequence[str]) -> list[str]:
    """The words with options before values: between values, Hydra's parser does not see them."""
    options, values, before = [], [], ""
    for word in words:
        is_option = word.startswith("-") or (bool(OPTIONS.get(before)) and "=" not in word)
        (options if is_option else values).append(word)
        before = word
    return [*options, *values]


def _with_dashes(word: str, after: Sequence[str], keys: Keys) -> str:
    name, equals, value = word.lstrip("-").partition("=")
    beside = not equals and bool(after) and "=" not in after[0] and not after[0].startswith("-")
    if beside:
        value = after[0]
    given = f"{word} {value}" if beside else word
    options = [] if value else nearest(word, [option for option in OPTIONS if option.startswith("--")])[:1]
    if options:
        return f"{word} is no option. Did you mean {options[0]}?"
    found = keys.nearest(name)
    if not found:
        return f"{given} is no option, and there is no config key {name}. Values are set with key=value."
    return f"{given} is written without dashes: {_either(found, value or 'VALUE')}"


def _without_equals(words: Sequence[str], at: int, keys: Keys) -> str:
    word, after = words[at], list(words[at + 1 : at + 3])
    if word.startswith("="):
        # "model =resnet"; "model = resnet" has been told at its first word.
        return f"{' '.join(words[max(at - 1, 0) : at + 1])} is written without spaces: {words[at - 1]}{word}"
    if after[:1] == ["="] and len(after) == 2:
        return f"{word} = {after[1]} is written without spaces: {_either(keys.nearest(word) or [word], after[1])}"
    if after and after[0].startswith("=") and len(after[0]) > 1:
        return f"{word} {after[0]} is written without spaces: {_either(keys.nearest(word) or [word], after[0][1:])}"
    if after and "=" not in after[0] and not after[0].startswith("-") and (found := keys.nearest(word)):
        return f"{word} {after[0]} is written with =: {_either(found, after[0])}"
    said = f"{word!r} is not key=value."
    if groups := [group for group in keys.groups if word in keys.options(group)]:
        return f"{said} Did you mean {_either(groups, word)}?"
    if at and "=" in words[at - 1]:
        return f"{said} If it belongs to the value before it, quote the whole: 'key=\"a b\"'."
    found = keys.nearest(word)
    return f"{said} Did you mean {_either(found, 'VALUE')}?" if found else f"{said} --help shows how to start."


def _either(keys: Sequence[str], value: str) -> str:
    return " or ".join(f"{key}=[{value}]" if key in ("plugins", "logger") else f"{key}={value}" for key in keys)
