"""Every combination of what is listed, in order, conditions respected. Needs no further package."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from ft.sweeps.samplers.proposals import Proposal
from ft.sweeps.samplers.searchable import refuse_intervals
from ft.sweeps.space.parameters import Space, holds


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """All of them, each once, the last parameter fastest; of a space of nothing, the one that changes nothing."""
    return _from(space, 0, {})


def _from(space: Space, at: int, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if at == len(space.parameters):
        yield params
        return
    parameter = space.parameters[at]
    if not holds(parameter, params):
        yield from _from(space, at + 1, params)
        return
    for value in parameter.values():
        yield from _from(space, at + 1, {**params, parameter.key: value})


class Grid:
    """Proposes them from the first, in every process: what has ended is known elsewhere.

    Args:
        space: Of listed values.
        limit: At most so many; ``None``: all.

    Raises:
        UserError: A parameter can be any number.
    """

    def __init__(self, space: Space, limit: int | None) -> None:
        refuse_intervals(space)
        self.total = sum(1 for _ in islice(combinations(space), limit))
        self._left = enumerate(islice(combinations(space), limit))

    def ask(self, count: int) -> list[Proposal]:
        """The next; empty after the last."""
        return [Proposal(number, params) for number, params in islice(self._left, count)]

    def tell(self, number: int, state: str, values: Sequence[float]) -> None:
        """Nothing is learned from it."""
        del number, state, values
