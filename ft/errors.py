"""What a user's mistake looks like: what was given, what the rule is, which config key to change."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from ft.likeness import unlikeness

# From ft.likeness: as unlike as a name may be that is offered, and may be however near the nearest is.
ALIKE, NEAR = 0.5, 0.3
# And so many times as unlike as the nearest.
FAR_BEHIND = 2.0


class UserError(ValueError):
    """A mistake the user can mend; shown as its message alone, without a traceback, with exit code 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends the process in order, as Ctrl-C does, with exit code 143."""


class RunFailed(RuntimeError):
    """A run cannot go on, and no single setting is wrong; shown as its message alone, with exit code 1."""


class NotFinite(RunFailed):
    """A loss, a gradient or a weight is infinite or not a number."""


class WorkersLost(RunFailed):
    """Decoding processes have died or hang."""


class OutOfMemory(UserError):
    """Memory is too short even for what is smallest."""


class Answer(Exception):
    """What the user asked for instead of a run; shown as its message alone, with exit code 0."""


def require(condition: bool, key: str, rule: str, got: Any) -> None:
    """Refuses a config value.

    Args:
        condition: Whether the value keeps the rule.
        key: The config key to change, such as ``model.head.drop_rate``.
        rule: What the value must be, such as ``must be in [0, 1)``.
        got: The value that was given.

    Raises:
        UserError: ``condition`` is false.
    """
    if not condition:
        raise UserError(f"{key} {rule}, got {got!r}.")


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """The ``count`` candidates most like ``name``, the likeliest first; empty when none is alike.

    Those that are much less alike than the first are left out.
    """
    ranked = sorted((unlikeness(name, each), len(each), each) for each in set(candidates))
    limit = min(ALIKE, max(FAR_BEHIND * ranked[0][0], NEAR)) if ranked else 0.0
    return [each for cost, _, each in ranked[:count] if cost <= limit]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A sentence that names the nearest candidates, or the empty string."""
    found = nearest(name, candidates)
    return f" Did you mean {' or '.join(found)}?" if found else ""


def one_of(value: Any, choices: Iterable[str], key: str) -> None:
    """Refuses a value that is not among the choices, naming the nearest.

    Raises:
        UserError: ``value`` is not in ``choices``.
    """
    names = list(choices)
    if value not in names:
        hint = did_you_mean(str(value), names)
        raise UserError(f"{key}={value} is not a choice: it must be one of {', '.join(names)}.{hint}")


def require_extra(package: str, extra: str, key: str) -> None:
    """Refuses a setting whose package is not installed, naming the extra that brings it.

    Raises:
        UserError: ``package`` cannot be imported.
    """
    if find_spec(package) is None:
        raise UserError(f"{key} needs {package}: pip install -c constraints.txt -e '.[{extra}]'")
