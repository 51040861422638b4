"""A trial in few words: its parameters without what their keys have in common, its values as people write them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Key to the last parts of it that no other key ends in; ``optimizer.lr`` is ``lr`` where nothing else is."""
    listed = list(dict.fromkeys(keys))
    found = {}
    for key in listed:
        parts = key.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        found[key] = next(end for end in ends if end == key or sum(_ends_in(each, end) for each in listed) == 1)
    return found


def value_in_words(value: Any) -> str:
    """As it is written on a command line; numbers with four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{value_in_words(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(value_in_words(each) for each in value)}]"
    return str(value)


def params_in_words(params: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """``optimizer=adam lr=0.001``; ``defaults`` where nothing was varied.

    Args:
        params: Of a trial.
        names: From ``short_names`` of all trials' keys; of these alone, if nothing is said.
    """
    names = short_names(params) if names is None else names
    return " ".join(f"{names[key]}={value_in_words(value)}" for key, value in params.items()) or "defaults"


def _ends_in(key: str, end: str) -> bool:
    return key == end or key.endswith(f".{end}")
