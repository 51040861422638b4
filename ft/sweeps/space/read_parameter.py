"""A parameter from Hydra's syntax."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException

from ft.errors import UserError
from ft.sweeps.space.overrides import as_text
from ft.sweeps.space.parameters import CHOICE, FLOAT, INT, Parameter

WHOLE = re.compile(r"[+-]?\d+")


def parse(key: str, text: str, parser: OverridesParser) -> Override:
    """One entry of ``sweep.space``.

    Raises:
        UserError: Hydra cannot read it.
    """
    try:
        return parser.parse_override(f"{key}={text}")
    except HydraException as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"sweep.space.{key}={text} is not Hydra's syntax: {said}\n"
            "It takes choice(a, b), range(1, 9, 2), interval(0.0, 1.0) or tag(log, interval(1e-5, 1e-1))."
        ) from None


def read_parameter(override: Override) -> Parameter:
    """What varies.

    Args:
        override: Has several values.

    Raises:
        UserError: It has none, or they cannot be what its tags say.
    """
    key, word = override.get_key_element(), _word(override)
    if override.is_delete():
        raise UserError(f"{word}: what is left out cannot be searched.")
    sweep = override.value()
    tags, shuffled = getattr(sweep, "tags", set()), getattr(sweep, "shuffle", False)
    if shuffled:
        raise UserError(f"{word}: leave out shuffle. The order is the sampler's: sweep.sampler=random.")
    if unknown := sorted(tags - {"log"}):
        raise UserError(f"{word}: {unknown[0]} is no tag; the only one is log.")
    if isinstance(sweep, IntervalSweep):
        return _interval(key, sweep, word)
    if isinstance(sweep, RangeSweep):
        return _range(key, sweep, word)
    if tags:
        raise UserError(f"{word}: log is for interval and range.")
    # What ``glob`` stands for is known to the loader.
    elements = sweep.list if isinstance(sweep, ChoiceSweep) else override.sweep_iterator()
    choices = {as_text(value): value for value in map(_plain, elements)}
    if not choices:
        raise UserError(f"{word} is empty: no choice fits.")
    return Parameter(key, CHOICE, choices=tuple(choices.values()))


def _interval(key: str, sweep: IntervalSweep, word: str) -> Parameter:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    if not low < high:
        raise UserError(f"{word} is empty: its first number must be below its second.")
    kind = INT if isinstance(low, int) or _written_as_whole(word) else FLOAT
    number = int if kind is INT else float
    return _checked(Parameter(key, kind, low=number(low), high=number(high), log="log" in sweep.tags), word)


def _range(key: str, sweep: RangeSweep, word: str) -> Parameter:
    numbers = [sweep.start, sweep.stop, sweep.step]
    start, stop, step = (Decimal(str(number)) for number in numbers)
    if step == 0 or (stop - start) * step <= 0:
        raise UserError(
            f"{word} is empty: {as_text(sweep.step)} leads from {sweep.start} to no number before {sweep.stop}."
        )
    # The stop is not part of it.
    last = start + step * ((stop - start) / step).to_integral_value("ROUND_CEILING") - step
    kind = INT if all(isinstance(number, int) for number in numbers) else FLOAT
    number = int if kind is INT else float
    low, high = sorted((number(start), number(last)))
    parameter = Parameter(key, kind, low=low, high=high, step=number(abs(step)), log="log" in sweep.tags)
    if parameter.log and (kind is FLOAT or parameter.step != 1):
        raise UserError(f"{word}: log goes with a range of whole numbers and step 1, or with interval(...).")
    return _checked(parameter, word)


def _checked(parameter: Parameter, word: str) -> Parameter:
    assert parameter.low is not None
    if parameter.log and parameter.low <= 0:
        raise UserError(f"{word}: on a log scale both numbers must be above 0.")
    return parameter


def _written_as_whole(word: str) -> bool:
    # Hydra reads the ends of an interval as numbers with a fraction, however they are written.
    inside = re.search(r"interval\(([^()]*)\)", word)
    ends = [end.rpartition("=")[2].strip() for end in inside[1].split(",")] if inside else []
    return bool(ends) and all(map(WHOLE.fullmatch, ends)) and "float(" not in word


def _plain(element: Any) -> Any:
    """A value as Python has it."""
    if isinstance(element, QuotedString):
        return element.text
    if isinstance(element, list):
        return [_plain(each) for each in element]
    if isinstance(element, Mapping):
        return {_plain(key): _plain(value) for key, value in element.items()}
    return element


def _word(override: Override) -> str:
    return override.input_line or override.get_key_element()
