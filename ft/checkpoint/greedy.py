"""Greedy soup: weights are averaged one after the other, as long as validation does not become worse.

    soup = [best];  for each of the next best: keep it in the mean if the metric is not worse with it

From Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, recipe 1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

Ingredient = TypeVar("Ingredient")


def mean_weights(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several state dictionaries; what is not a float is taken from the first.

    BatchNorm's statistics are averaged like weights.

    Args:
        states: At least one, all with the same names and shapes. Two of them are in memory at a time.
    """
    total: dict[str, Tensor] = {}
    count = 0
    for state in states:
        count += 1
        for name, value in state.items():
            if name not in total:
                total[name] = value.clone()
            elif value.is_floating_point():
                total[name] += value
    return {name: value / count if value.is_floating_point() else value for name, value in total.items()}


def greedy(candidates: Sequence[Ingredient], score: Callable[[Sequence[Ingredient]], float]) -> list[Ingredient]:
    """The ingredients of the soup.

    Args:
        candidates: Best first, at least one.
        score: Of the mean of some candidates; higher is better.

    Source: Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, recipe 1.
    """
    chosen = list(candidates[:1])
    best = score(chosen)
    for candidate in candidates[1:]:
        value = score([*chosen, candidate])
        if value >= best:
            chosen, best = [*chosen, candidate], value
    return chosen
