"""Times as people write them: ``60s``, ``5m``, ``1.5h``."""

import re
from typing import Any

from ft.errors import UserError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(budget: Any, key: str = "budget") -> float | None:
    """The seconds; ``None`` for no limit.

    Args:
        budget: ``60s``, ``5m``, ``1.5h`` or a number of seconds.
        key: The config key, for messages.

    Raises:
        UserError: It is none of these, or not above 0.
    """
    if budget is None:
        return None
    found = re.fullmatch(r"([0-9.]+)([smh]?)", str(budget))
    try:
        seconds = float(found[1]) * UNITS[found[2] or "s"] if found else 0.0
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise UserError(f"{key} must be a time such as 60s, 5m or 1h, or null, got {budget!r}.")
    return seconds
