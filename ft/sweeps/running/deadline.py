"""``sweep.budget``: whether another run would probably end in time."""

import time
from collections.abc import Callable
from statistics import median


class Deadline:
    """Of one call of a sweep: one that goes on has its whole budget again.

    Args:
        seconds: In all; ``None`` for no limit.
        now: Tells seconds.
    """

    def __init__(self, seconds: float | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.now = now
        self.started = now()
        self._rounds: list[float] = []

    def took(self, seconds: float) -> None:
        """Notes how long the last round of runs took."""
        self._rounds.append(seconds)

    def allows_another(self) -> bool:
        """Whether another round like the last ones would end in time; the first one is always begun."""
        if self.seconds is None or not self._rounds:
            return True
        return self.now() - self.started + median(self._rounds) <= self.seconds
