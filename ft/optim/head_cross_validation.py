"""Which dropout rate suits a head, told by cross-validation on features that are computed once.

features  | fold 0 | fold 1 | fold 2 |      each fold is held out once; a fresh head is trained on the others
             held      train    train
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_validate(
    head: nn.Module,
    features: Tensor,
    targets: Tensor,
    *,
    rates: Sequence[float],
    loss: Loss,
    num_folds: int,
    num_steps: int,
    lr: float,
    weight_decay: float,
    draws: Callable[[int], AbstractContextManager[None]],
) -> list[float]:
    """The mean held-out loss of each rate.

    Args:
        head: Features ``(N, F)`` to logits ``(N, K)``, with its initial weights; left as it is.
        features: ``(N, F)``.
        targets: ``(N,)`` or ``(N, K)``.
        rates: Of the head's dropout, each in ``[0, 1)``.
        loss: Of logits and targets.
        num_folds: From 2 to ``N``.
        num_steps: Of AdamW, each on all images that are not held out.
        lr: Of AdamW.
        weight_decay: Of AdamW.
        draws: The random numbers of a fold: the same for every rate, so that only the rate differs.

    Returns:
        One loss a rate; every image has been held out once.
    """
    with draws(-1):
        order = torch.randperm(len(features))
    folds = order.tensor_split(num_folds)
    totals = [0.0] * len(rates)
    for at, rate in enumerate(rates):
        for fold, held_out in enumerate(folds):
            trained = torch.cat([other for other in folds if other is not held_out])
            fresh = with_drop_rate(copy.deepcopy(head), rate)
            with draws(fold):
                fit_head(fresh, features[trained], targets[trained], loss, num_steps, lr, weight_decay)
            with torch.no_grad():
                value = float(loss(fresh.eval()(features[held_out]), targets[held_out]))
            totals[at] += value * len(held_out) / len(features)
    return totals


def fit_head(
    head: nn.Module, features: Tensor, targets: Tensor, loss: Loss, num_steps: int, lr: float, weight_decay: float
) -> None:
    """Trains a head on all features at once, in place."""
    head.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=weight_decay)
    with torch.enable_grad():
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss(head(features), targets).backward()
            optimizer.step()


def with_drop_rate(head: nn.Module, rate: float) -> nn.Module:
    """The same head, whose dropouts all have this rate now."""
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
    return head
