"""Many heads on the same stored features in one go.

    step:  features[rows] (B, F) --- blended by each alpha --- dropped by each rate ---> every head that wants both so
           -> H losses -> AdamW, each head at its own rate and decay, one cycle

What a head becomes does not depend on which others it is trained with: the order of the images, the numbers that
dropout compares with its rate and the partners of mixup follow from the seed and the step alone. Heads with the same
structure, drop rate and mixup therefore have the same inputs, and share their products.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ft.data.blend import blend, draw_blend
from ft.data.randomness import derive_seed
from ft.errors import require
from ft.optim.schedules import one_cycle
from ft.phases.stacked_head import Stack, stack, structure
from ft.tasks.task import Loss

Mix = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]
Soften = Callable[[Tensor], Tensor]
KEY = "recipe.head_training"


@dataclass(frozen=True)
class HeadTraining:
    """How one head is trained.

    Attributes:
        loss: The training loss.
        lr: The highest rate.
        weight_decay: Of matrices.
        mixup: alpha of the shares by which features, and targets, are blended; 0: none.

    Raises:
        UserError: A value is out of its range.
    """

    loss: Loss
    lr: float
    weight_decay: float
    mixup: float = 0.0

    def __post_init__(self) -> None:
        require(self.lr > 0, f"{KEY}.lr", "must be above 0", self.lr)
        require(self.weight_decay >= 0, f"{KEY}.weight_decay", "must be at least 0", self.weight_decay)
        require(self.mixup >= 0, "recipe.mixup", "must be at least 0", self.mixup)


def train_heads(
    heads: Sequence[nn.Module],
    features: Tensor,
    targets: Tensor,
    how: Sequence[HeadTraining],
    *,
    soften: Soften,
    steps: int,
    batch_size: int,
    seed: int,
    mix: Mix | None = None,
) -> None:
    """Trains heads in place, each as it would be trained alone.

    Equal but for the last digits of products, whose order of summation depends on how many heads go into them. A head
    whose layers are not known to ``ft.phases.stacked_head`` is run by itself, its dropout as it is.

    Args:
        heads: ``H`` times ``(B, F)`` to logits ``(B, K)``.
        features: ``(N, F)``, on the device of the heads.
        targets: ``(N,)`` or ``(N, K)``, likewise.
        how: Of each head.
        soften: Targets to ``(B, K)`` that can be blended.
        steps: Of the optimizer.
        batch_size: Features a step.
        seed: Of order, dropout and blending.
        mix: Changes a batch of features and targets for all heads alike, as plugins do.

    Raises:
        UserError: ``steps`` or ``batch_size`` is below 1.
    """
    require(steps >= 1, f"{KEY}.steps", "must be at least 1", steps)
    require(batch_size >= 1, f"{KEY}.batch_size", "must be at least 1", batch_size)
    for head in heads:
        head.train()
    bundles = _bundles(heads, how)
    optimizer = _optimizer(heads, how, fused=features.device.type in ("cpu", "cuda"))
    highest = [group["lr"] for group in optimizer.param_groups]
    generator = Generator().manual_seed(derive_seed(seed, "head"))
    order = torch.empty(0, dtype=torch.long)
    devices = [features.device] if features.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(derive_seed(seed, "head dropout"))
        for step in range(steps):
            if len(order) < min(batch_size, len(features)):
                order = torch.randperm(len(features), generator=generator)
            rows, order = order[:batch_size].to(features.device), order[batch_size:]
            factor = one_cycle(step, steps, start=0.04, stop=0.0001, rise=0.2)
            for group, rate in zip(optimizer.param_groups, highest, strict=True):
                group["lr"] = rate * factor
            inputs, wanted = features[rows], targets[rows]
            if mix is not None:
                inputs, wanted = mix(inputs, wanted, generator)
            optimizer.zero_grad()
            _backward(bundles, inputs, wanted, soften, seed=derive_seed(seed, "head step", step))
            optimizer.step()


@dataclass(frozen=True)
class _Bundle:
    """Heads with the same inputs."""

    run: Stack
    mixup: float
    losses: list[Loss]


def _bundles(heads: Sequence[nn.Module], how: Sequence[HeadTraining]) -> list[_Bundle]:
    alike: dict[tuple[str | int, float], list[int]] = {}
    for at, (head, one) in enumerate(zip(heads, how, strict=True)):
        alike.setdefault((structure(head) or at, one.mixup), []).append(at)
    return [
        _Bundle(stack([heads[at] for at in members]), mixup, [how[at].loss for at in members])
        for (_, mixup), members in alike.items()
    ]


def _optimizer(heads: Sequence[nn.Module], how: Sequence[HeadTraining], *, fused: bool) -> torch.optim.Optimizer:
    """Each head's parameters at its own rate, its matrices with its own weight decay."""
    groups = []
    for head, one in zip(heads, how, strict=True):
        parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
        matrices = [each for each in parameters if each.ndim > 1]
        others = [each for each in parameters if each.ndim <= 1]
        groups.append({"params": matrices, "lr": one.lr, "weight_decay": one.weight_decay})
        groups.append({"params": others, "lr": one.lr, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, fused=fused)


def _backward(bundles: list[_Bundle], inputs: Tensor, targets: Tensor, soften: Soften, *, seed: int) -> None:
    drawn: dict[tuple[int, torch.Size], Tensor] = {}

    def noise(layer: int, shape: torch.Size) -> Tensor:
        if (layer, shape) not in drawn:
            generator = Generator(inputs.device).manual_seed(derive_seed(seed, "dropout", layer))
            drawn[layer, shape] = torch.rand(shape, generator=generator, device=inputs.device)
        return drawn[layer, shape]

    blended = {0.0: (inputs, targets)}
    for bundle in bundles:
        if bundle.mixup not in blended:
            lam, order = draw_blend(len(inputs), bundle.mixup, Generator().manual_seed(derive_seed(seed, "mixup")))
            blended[bundle.mixup] = blend(inputs, soften(targets), lam=lam, order=order.to(inputs.device))
        values, wanted = blended[bundle.mixup]
        logits = bundle.run(values, noise).unbind()
        torch.stack([loss(each, wanted) for loss, each in zip(bundle.losses, logits, strict=True)]).sum().backward()
