"""What every sampler does for a sweep: it proposes values, and is told what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Proposal:
    """What is to be tried.

    Attributes:
        number: From 0; the same in every process that works on the sweep.
        params: Config keys and their values.
        trial: What ``ft.jobs.pruning`` needs to reach the study from another process; empty without a pruner.
    """

    number: int
    params: Mapping[str, Any]
    trial: Mapping[str, Any] = field(default_factory=dict)


class Proposals(Protocol):
    """Where proposals come from."""

    @property
    def total(self) -> int | None:
        """How many there will be; ``None``: nobody knows."""
        ...

    def ask(self, count: int) -> list[Proposal]:
        """Up to ``count`` that have not ended, before them, in the first call, those that have; empty: no more."""
        ...

    def tell(self, number: int, state: str, values: Sequence[float]) -> None:
        """What came of one; of one that has ended already, nothing changes.

        Args:
            number: Of the proposal.
            state: ``finished``, ``pruned`` or ``failed``.
            values: Of the metrics, in order, where it is finished.
        """
        ...
