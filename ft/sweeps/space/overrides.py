"""Values as words of the command line: what Hydra's grammar reads back is what was written."""

import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

# Words that the grammar takes for something else than text.
RESERVED = re.compile(r"true|false|null|nan|inf", re.IGNORECASE)
# What the keys of a mapping cannot hold as they are; these cannot be quoted.
SPECIAL = re.compile(r"([\\()\[\]{}:=, \t])")
PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """One word of the command line for each value; keys of groups and of single values alike.

    Args:
        params: Config keys to values: text, numbers, yes or no, nothing, lists and mappings of these.
    """
    return [f"{key}={as_text(value)}" for key, value in params.items()]


def as_text(value: Any) -> str:
    """A value as Hydra's grammar reads it, the same for the same value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_as_key(key)}:{as_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_text, value)) + "]"
    text = str(value)
    if PLAIN.fullmatch(text) and not RESERVED.fullmatch(text):
        return text
    return QuotedString(text, quote=Quote.single).with_quotes()


def _as_key(key: Any) -> str:
    return SPECIAL.sub(r"\\\1", key) if isinstance(key, str) else as_text(key)
