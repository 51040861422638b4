"""A head of more than one layer, trained on stored features in one go: no loader, no step of Lightning's, no log.

features (N, F) in memory -> index gather -> [what plugins do to batches] -> head -> loss -> AdamW, one cycle

Everything that makes a step of the whole model slow is left out: on a few thousand images the whole training takes
about a second.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from ft.data.randomness import derive_seed
from ft.optim.schedules import one_cycle
from ft.tasks.task import Loss

Mix = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]


def train_head(
    head: nn.Module,
    features: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    mix: Mix,
    steps: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
) -> None:
    """Trains a head in place.

    Args:
        head: ``(B, F)`` to logits ``(B, K)``; trained in train mode, dropout and BatchNorm as they are.
        features: ``(N, F)``, on the device of the head.
        targets: ``(N,)`` or ``(N, K)``, likewise.
        loss: The training loss.
        mix: Changes a batch of features and targets, as mixup does.
        steps: Of the optimizer.
        batch_size: Features a step.
        lr: The highest rate.
        weight_decay: Of matrices.
        seed: Of order, dropout and ``mix``.
    """
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    generator = torch.Generator().manual_seed(derive_seed(seed, "head"))
    devices = [features.device] if features.device.type == "cuda" else []
    order = torch.empty(0, dtype=torch.long)
    head.train()
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(derive_seed(seed, "head dropout"))
        for step in range(steps):
            if len(order) < min(batch_size, len(features)):
                order = torch.randperm(len(features), generator=generator)
            rows, order = order[:batch_size].to(features.device), order[batch_size:]
            for group in optimizer.param_groups:
                group["lr"] = lr * one_cycle(step, steps, start=0.04, stop=0.0001, rise=0.2)
            inputs, wanted = mix(features[rows], targets[rows], generator)
            optimizer.zero_grad()
            loss(head(inputs), wanted).backward()
            optimizer.step()
