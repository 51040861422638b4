"""The Pareto front: what nothing else is at least as good as in everything, and better in something."""

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]], modes: Sequence[str]) -> list[int]:
    """Positions of the points of the front; of equal ones all.

    Args:
        points: Of one length.
        modes: ``max`` or ``min`` of each coordinate.
    """
    better = [
        [-value if mode == "min" else value for value, mode in zip(point, modes, strict=True)] for point in points
    ]

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    return [at for at, point in enumerate(better) if not any(beats(other, point) for other in better)]
