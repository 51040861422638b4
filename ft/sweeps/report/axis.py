"""A parameter as an axis: numbers on a linear or logarithmic scale, choices side by side, and a place for none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ft.sweeps.report.material import Material, Row
from ft.sweeps.words import value_in_words

# Longer ticks would run into each other.
LONGEST_TICK = 16
# Listed numbers of which the greatest is so many times the least are on a logarithmic scale.
WIDE = 100
# What a parameter is called in trials that do not have it.
ABSENT = "not set"


@dataclass(frozen=True)
class Axis:
    """One parameter.

    Attributes:
        key: Of the config.
        name: Short.
        log: Whether its numbers are on a logarithmic scale.
        choices: What its values are called, in their order; empty for numbers.
        low: Least number.
        high: Greatest number.
    """

    key: str
    name: str
    log: bool
    choices: tuple[str, ...]
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, material: Material, key: str) -> "Axis":
        """Of a parameter of the sweep's trials."""
        values = [row["params"][key] for row in material.rows if key in row["params"]]
        name = material.names[key]
        numeric = material.is_number(key)
        if not numeric or len(set(values)) == 1:
            order = sorted(set(values)) if numeric else values
            return cls(key, name, False, tuple(dict.fromkeys(value_in_words(value) for value in order)))
        # Of a list of numbers nothing says what lies between them.
        listed = not material.is_interval(key) and max(values) / max(min(values), 1e-300) >= WIDE
        log = min(values) > 0 and (material.is_log(key) or listed)
        return cls(key, name, log, (), float(min(values)), float(max(values)))

    def value(self, row: Row) -> float | None:
        """What is drawn of a trial: its number, or the position of its choice; ``None`` where it has neither."""
        if self.key not in row["params"]:
            return None
        value: Any = row["params"][self.key]
        return float(self.choices.index(value_in_words(value))) if self.choices else float(value)

    def share(self, value: float) -> float:
        """Where a value of ``value`` lies, from 0 to 1."""
        if self.choices:
            return (value + 0.5) / len(self.choices)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Shares and what stands at them."""
        if self.choices:
            return [(self.share(at), short(name)) for at, name in enumerate(self.choices)]
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            decades = [10.0**exponent for exponent in range(first, last + 1)]
            values = thinned(decades, 6) if len(decades) > 1 else [self.low, self.high]
        else:
            from matplotlib.ticker import MaxNLocator

            found = MaxNLocator(5).tick_values(self.low, self.high)
            values = [value for value in found if self.low <= value <= self.high]
        return [(self.share(value), f"{value:.4g}") for value in values]


def short(name: str) -> str:
    """A name that fits beside an axis, with nothing that matplotlib takes for a formula."""
    cut = name if len(name) <= LONGEST_TICK else f"{name[: LONGEST_TICK - 1]}…"
    return cut.replace("$", r"\$")


def thinned(values: Sequence[Any], most: int) -> list[Any]:
    """Every second, third, ... of them, so that there are at most ``most``."""
    return list(values[:: math.ceil(len(values) / most)])
