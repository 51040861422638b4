"""Many heads on the same stored features in one go.

    step:  features[rows] (B, F) --- blended by each alpha --- dropped by each rate ---> every head that wants both so
           -> H losses -> AdamW, each head at its own rate and decay, one cycle

What a head becomes does not depend on which others it is trained with: the order of the images, the numbers that
dropout compares with its rate and the partners of mixup follow from the seed and the step alone. Heads with the same
structure, drop rate and mixup therefore have the same inputs, and share their products.

On a CPU the heads are shared out among threads that compute alone: products this small gain next to nothing from a
second thread, and 64 heads have enough of them for each.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event

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
    ended = Event()
    train = partial(
        _train,
        features=features,
        targets=targets,
        soften=soften,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        mix=mix,
        ended=ended,
    )
    threads = torch.get_num_threads() if features.device.type == "cpu" and mix is None else 1
    shares = _shares(_bundles(heads, how), threads)
    devices = [features.device] if features.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # Of heads that draw for themselves: all of them are in one share.
        torch.manual_seed(derive_seed(seed, "head dropout"))
        if len(shares) == 1:
            train(shares[0])
            return
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(len(shares)) as pool:
                try:
                    list(pool.map(train, shares))
                finally:
                    ended.set()  # of an error or Ctrl-C: no thread goes on alone
        finally:
            torch.set_num_threads(threads)


@torch.enable_grad()
def _train(
    bundles: Sequence["_Bundle"],
    *,
    features: Tensor,
    targets: Tensor,
    soften: Soften,
    steps: int,
    batch_size: int,
    seed: int,
    mix: Mix | None,
    ended: Event,
) -> None:
    """Trains the heads of some bundles, unless it has ``ended``; the other arguments are those of ``train_heads``."""
    optimizer = _optimizer(bundles, fused=features.device.type in ("cpu", "cuda"))
    highest = [group["lr"] for group in optimizer.param_groups]
    generator = Generator().manual_seed(derive_seed(seed, "head"))
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if ended.is_set():
            return
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
    """Heads with the same inputs.

    Attributes:
        heads: One or more.
        how: Of each; they have one ``mixup``.
        known: Whether they can be stacked: a head that cannot is alone.
        run: All of them at once.
    """

    heads: list[nn.Module]
    how: list[HeadTraining]
    known: bool
    run: Stack

    @property
    def weights(self) -> int:
        return sum(parameter.numel() for head in self.heads for parameter in head.parameters())


def _bundles(heads: Sequence[nn.Module], how: Sequence[HeadTraining]) -> list[_Bundle]:
    alike: dict[tuple[str | int, float], list[int]] = {}
    for at, (head, one) in enumerate(zip(heads, how, strict=True)):
        alike.setdefault((structure(head) or at, one.mixup), []).append(at)
    found = []
    for (name, _), members in alike.items():
        some = [heads[at] for at in members]
        found.append(_Bundle(some, [how[at] for at in members], isinstance(name, str), stack(some)))
    return found


def _shares(bundles: Sequence[_Bundle], threads: int) -> list[list[_Bundle]]:
    """For each thread some bundles, as evenly as their sizes allow; those that draw for themselves in the first."""
    shares = [[bundle for bundle in bundles if not bundle.known], *([] for _ in range(threads - 1))]
    for bundle in sorted(bundles, key=lambda each: each.weights, reverse=True):
        if bundle.known:
            min(shares, key=lambda share: sum(each.weights for each in share)).append(bundle)
    return [share for share in shares if share]


def _optimizer(bundles: Sequence[_Bundle], *, fused: bool) -> torch.optim.Optimizer:
    """Each head's parameters at its own rate, its matrices with its own weight decay."""
    groups = []
    for head, one in (pair for bundle in bundles for pair in zip(bundle.heads, bundle.how, strict=True)):
        parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
        matrices = [each for each in parameters if each.ndim > 1]
        others = [each for each in parameters if each.ndim <= 1]
        groups.append({"params": matrices, "lr": one.lr, "weight_decay": one.weight_decay})
        groups.append({"params": others, "lr": one.lr, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, fused=fused)


def _backward(bundles: Sequence[_Bundle], inputs: Tensor, targets: Tensor, soften: Soften, *, seed: int) -> None:
    drawn: dict[tuple[int, torch.Size], Tensor] = {}

    def noise(layer: int, shape: torch.Size) -> Tensor:
        if (layer, shape) not in drawn:
            generator = Generator(inputs.device).manual_seed(derive_seed(seed, "dropout", layer))
            drawn[layer, shape] = torch.rand(shape, generator=generator, device=inputs.device)
        return drawn[layer, shape]

    blended = {0.0: (inputs, targets)}
    for bundle in bundles:
        mixup = bundle.how[0].mixup
        if mixup not in blended:
            lam, order = draw_blend(len(inputs), mixup, Generator().manual_seed(derive_seed(seed, "mixup")))
            blended[mixup] = blend(inputs, soften(targets), lam=lam, order=order.to(inputs.device))
        values, wanted = blended[mixup]
        logits = bundle.run(values, noise).unbind()
        torch.stack([one.loss(each, wanted) for one, each in zip(bundle.how, logits, strict=True)]).sum().backward()
