"""A rule for one config value: its kind, and the range of a number."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ft.errors import UserError, did_you_mean, one_of
from ft.kinds import choices_of, fits, in_words, is_choice


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Attributes:
        kind: An annotation that ``ft.kinds`` understands; ``Literal`` lists choices.
        words: The range, as it follows ``must be``; empty: every value of the kind.
        holds: Whether a value of the kind is in the range; asked for numbers only.
    """

    kind: Any
    words: str = ""
    holds: Callable[[Any], bool] = lambda value: True

    def check(self, key: str, value: Any) -> None:
        """Refuses a value.

        Args:
            key: The config key, for the message.
            value: As YAML gives it.

        Raises:
            UserError: It is of another kind, no choice, or out of range.
        """
        if fits(value, self.kind):
            if isinstance(value, int | float) and not isinstance(value, bool) and not self.holds(value):
                raise UserError(f"{key} must be {self.words}, got {value!r}.")
            return
        choices = choices_of(self.kind)
        if isinstance(value, str) and is_choice(self.kind):
            one_of(value, choices, key)
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise UserError(f"{key} must be {in_words(self.kind)}, got {value!r}.{hint}")


def at_least(least: float, kind: Any = int) -> Rule:
    return Rule(kind, f"at least {least}", lambda value: value >= least)


def above(least: float, kind: Any = float) -> Rule:
    return Rule(kind, f"above {least}", lambda value: value > least)


def up_to_one(kind: Any = float) -> Rule:
    return Rule(kind, "in (0, 1]", lambda value: 0 < value <= 1)


def below_one(kind: Any = float) -> Rule:
    return Rule(kind, "in [0, 1)", lambda value: 0 <= value < 1)


def share(kind: Any = float) -> Rule:
    return Rule(kind, "in [0, 1]", lambda value: 0 <= value <= 1)


def between(low: float, high: float, kind: Any = int) -> Rule:
    return Rule(kind, f"from {low} to {high}", lambda value: low <= value <= high)
