"""What varies: parameters, their values and their conditions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any

from ft.sweeps.space.overrides import as_text

CHOICE, INT, FLOAT = "choice", "int", "float"


@dataclass(frozen=True)
class Parameter:
    """A key that varies.

    Attributes:
        key: As on the command line, with its ``+`` where it is added.
        kind: ``choice``, ``int`` or ``float``.
        choices: Of a choice, in order.
        low: Least number.
        high: Greatest, included.
        step: Between two numbers; ``None``: every number between the two.
        log: Their logarithm is what varies evenly.
        when: Values that other parameters must have; empty: it is always there.
    """

    key: str
    kind: str
    choices: tuple[Any, ...] = ()
    low: float | int | None = None
    high: float | int | None = None
    step: float | int | None = None
    log: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def is_listed(self) -> bool:
        """Whether its values can be counted out."""
        return self.kind == CHOICE or self.step is not None

    @property
    def size(self) -> int:
        """How many values there are, where ``is_listed``."""
        if self.kind == CHOICE:
            return len(self.choices)
        low, high, step = (Decimal(str(each)) for each in (self.low, self.high, self.step))
        return 1 + int((high - low) / step)

    def values(self) -> list[Any]:
        """All of them, in order, where ``is_listed``."""
        return list(self.choices) if self.kind == CHOICE else list(_numbers(self.low, self.high, self.step))

    def conditions(self) -> str:
        """``when`` as text; empty where it is."""
        return " and ".join(f"{key}={','.join(map(as_text, values))}" for key, values in sorted(self.when.items()))

    def text(self) -> str:
        """In Hydra's syntax, the conditions behind it: the same text for the same parameter."""
        if self.kind == CHOICE:
            # Without the word choice: that takes no null.
            text = ", ".join(map(as_text, self.choices))
        elif self.step is None:
            text = f"interval({as_text(self.low)}, {as_text(self.high)})"
        else:
            text = f"range({as_text(self.low)}, {as_text(_after(self.high, self.step))}, {as_text(self.step)})"
        text = f"tag(log, {text})" if self.log else text
        return f"{text} when {self.conditions()}" if self.when else text


@dataclass(frozen=True)
class Space:
    """All parameters, each behind those that its conditions name; of those with the same key, one at a time."""

    parameters: tuple[Parameter, ...] = ()

    def texts(self) -> dict[str, str]:
        """Key to text; two spaces with the same texts are the same."""
        found: dict[str, str] = {}
        for parameter in self.parameters:
            before = found.get(parameter.key)
            found[parameter.key] = parameter.text() if before is None else f"{before} or {parameter.text()}"
        return found

    def name(self, parameter: Parameter) -> str:
        """Its key, with its conditions where that is not enough to tell it from others."""
        alone = sum(other.key == parameter.key for other in self.parameters) == 1
        return parameter.key if alone else f"{parameter.key} when {parameter.conditions()}"

    def active(self, params: Mapping[str, Any]) -> Iterator[Parameter]:
        """The parameters in order, each only where its conditions hold.

        Args:
            params: Values so far; what is yielded may be added before the next is asked for.
        """
        for parameter in self.parameters:
            if holds(parameter, params):
                yield parameter


def holds(parameter: Parameter, params: Mapping[str, Any]) -> bool:
    """Whether a parameter is there beside these values of others."""
    return all(key in params and is_among(params[key], values) for key, values in parameter.when.items())


def is_among(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether it is one of them, where 1, 1.0 and true are three things."""
    return as_text(value) in map(as_text, values)


def _numbers(low: Any, high: Any, step: Any) -> Iterator[Any]:
    # In decimal: 0.1 three times is 0.3.
    for at in count():
        number = Decimal(str(low)) + at * Decimal(str(step))
        if number > Decimal(str(high)):
            return
        yield int(number) if isinstance(low, int) else float(number)


def _after(high: Any, step: Any) -> Any:
    number = Decimal(str(high)) + Decimal(str(step))
    return int(number) if isinstance(high, int) else float(number)
