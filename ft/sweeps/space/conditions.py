"""Conditions between parameters: which there are, what they need, and in which order that makes sense."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from ft.errors import UserError, did_you_mean
from ft.sweeps.space.overrides import as_text
from ft.sweeps.space.parameters import Parameter, is_among

# By key; further ranges of the same key by a name of their own.
Parameters = dict[str, Parameter]


def as_conditions(when: Any, place: str) -> dict[str, tuple[Any, ...]]:
    """``when`` of a config: key to the values that are right.

    Raises:
        UserError: It is no mapping, or a key has no values.
    """
    if not isinstance(when, Mapping):
        raise UserError(f"{place}.when must be {{other.key: value}} or {{other.key: [values]}}, got {when!r}.")
    found = {key: tuple(value) if isinstance(value, list) else (value,) for key, value in when.items()}
    for key, values in found.items():
        if not values:
            raise UserError(f"{place}.when.{key} is empty: name the values of {key} for which the parameter is there.")
    return found


def check_conditions(parameters: Parameters) -> None:
    """Refuses conditions that no trial can meet.

    Raises:
        UserError: One names no parameter, or no value of it, or they go in circles.
    """
    for parameter in parameters.values():
        for key, values in parameter.when.items():
            place = f"sweep.space.{parameter.key}.when"
            if key not in parameters:
                raise UserError(
                    f"{place} names {key}, which is no parameter of the space.{did_you_mean(key, parameters)}\n"
                    "What has one value in all runs needs no condition."
                )
            other = parameters[key]
            if len(ranges_of(parameters, key)) > 1:
                raise UserError(f"{place} names {key}, which has several ranges: only what has one can be a condition.")
            if not other.is_listed:
                raise UserError(f"{place} names {key}, which can be any number: give it choice(...) or range(...).")
            known = other.values()
            for value in values:
                if not is_among(value, tuple(known)):
                    hint = did_you_mean(as_text(value), map(as_text, known))
                    raise UserError(f"{place}: {key} is never {as_text(value)}; it is {other.text()}.{hint}")
        _refuse_overlap(ranges_of(parameters, parameter.key))
    in_order(parameters)


def ranges_of(parameters: Parameters, key: str) -> list[Parameter]:
    """Those of one key."""
    return [parameter for parameter in parameters.values() if parameter.key == key]


def _refuse_overlap(ranges: Sequence[Parameter]) -> None:
    for one, other in combinations(ranges, 2):
        apart = any(
            not any(is_among(value, other.when[key]) for value in values)
            for key, values in one.when.items()
            if key in other.when
        )
        if not apart:
            raise UserError(
                f"sweep.space.{one.key} has two ranges that a trial may have both of: "
                f"{one.text()} and {other.text()}.\n"
                "Give each a condition on the same key, with other values."
            )


def without(parameters: Parameters, key: str, left: Sequence[Any] | None, *, fixed: bool = False) -> Parameters:
    """The parameters, after the command line has changed what one of them can be.

    Args:
        parameters: Key to parameter.
        key: Of the one that was changed.
        left: The values that it still can have; ``None``: any number.
        fixed: It is no longer part of the space: where its value is right, nothing depends on it.

    Raises:
        UserError: A condition asks for one of the values, and now it can be any number.
    """
    kept: Parameters = {}
    never: list[str] = []
    for name, parameter in parameters.items():
        if key not in parameter.when:
            kept[name] = parameter
            continue
        if left is None:
            raise UserError(
                f"sweep.space.{parameter.key} is there only for some values of {key}: "
                f"give {key} choice(...) or range(...)."
            )
        right = tuple(value for value in parameter.when[key] if is_among(value, tuple(left)))
        others = {other: values for other, values in parameter.when.items() if other != key}
        if right:
            kept[name] = replace(parameter, when=others if fixed else {**others, key: right})
        else:
            never.append(name)
    for name in never:
        # Nor is what depends on it.
        kept = without(kept, name, [])
    return kept


def in_order(parameters: Parameters) -> list[Parameter]:
    """As they are, but each behind those that its conditions name.

    Raises:
        UserError: They go in circles.
    """
    found: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [name for name, parameter in waiting.items() if not parameter.when.keys() & waiting.keys()]
        if not ready:
            names = ", ".join(parameter.key for parameter in waiting.values())
            raise UserError(f"the conditions in sweep.space go in circles: each of {names} waits for another.")
        found[ready[0]] = waiting.pop(ready[0])
    return list(found.values())
