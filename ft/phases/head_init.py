"""``model.head_init=solved``: the new head starts as the best there is on the features of the pretrained backbone.

A linear head is solved exactly, one of several layers is trained on the features alone. It costs one pass over the
training images and takes the place of a warm-up of the head. What trains from there wants a smaller rate than a random
head does.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ft.checkpoint.save import link
from ft.data.module import DataModule
from ft.data.transforms import normalize
from ft.errors import NotFinite
from ft.faults.finite import are_finite
from ft.optim.head_solver import solve_linear_head
from ft.phases.head_training import draw_weights, train_head
from ft.phases.many_heads import HeadTraining, Mix
from ft.phases.plan import HEAD
from ft.phases.worth import Score
from ft.tasks.task import Loss, Task

if TYPE_CHECKING:
    from ft.module import FineTuner

CHOICES = ("random", "solved")
# Before the last layer, what does not change features in eval mode, or not with what it was trained on.
HARMLESS = (nn.Dropout, nn.Identity, nn.LayerNorm)


def linear_layer(head: nn.Module) -> nn.Linear | None:
    """The only layer of a head that is to be solved; ``None`` where there is more than one to train."""
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    last = layers[-1]
    linear = isinstance(last, nn.Linear) and all(isinstance(layer, HARMLESS) for layer in layers[:-1])
    return last if linear else None  # pyright: ignore[reportReturnType] -- tested on the line above


def init_head(module: "FineTuner", data: DataModule, *, later: Sequence[str]) -> None:
    """Computes the head from the training images as evaluation sees them, and sets it in every process alike.

    Args:
        module: The backbone is what it was when training began.
        data: Its images.
        later: Boundaries of phases to come: the same pass over the images stores their activations.
    """
    head = module.model.split(HEAD)[1]
    module.eval()
    with torch.no_grad():
        features, targets = head_features(module, data, later)
    refuse_unfinite_features(features)
    module.eval()
    last = linear_layer(head)
    recipe = module.recipe
    alone = recipe.name == "head"
    if alone:
        # So that it begins with the weights it would have among the many heads of a sweep.
        draw_weights(head, seed=module.seed)
    if last is not None and recipe.head == "solved":
        solve_layer(module.task, head, last, features, targets)
    if last is None or alone:
        settings, task, mix = recipe.head_training, module.task, _mix(module)
        # What plugins blend is not blended again.
        mixup = recipe.mixup if alone and mix is None else 0.0
        how = head_training(module.train_loss, settings, mixup=mixup, task=task)
        train_head(
            head, features.to(module.device), targets.to(module.device), how, mix=mix,
            soften=task.soft_targets, steps=settings["steps"], batch_size=settings["batch_size"], seed=module.seed,
        )  # fmt: skip
    if not bool(are_finite(head.parameters())):
        raise NotFinite(
            "the head that was computed on the features of the frozen model is not finite.\n"
            "Lower recipe.head_training.lr, or set model.head_init=random."
        )
    module.train()
    # The processes compute the same, and the last digits may still differ.
    with torch.no_grad():
        for tensor in (*head.parameters(), *head.buffers()):
            tensor.copy_(module.trainer.strategy.broadcast(tensor.detach().cpu()).to(tensor))


def refuse_unfinite_features(features: Tensor) -> None:
    """Refuses features that no head can be made of.

    Args:
        features: ``(N, F)`` of the training images.

    Raises:
        NotFinite: Says of how many.
    """
    bad = int((~torch.isfinite(features)).any(dim=1).sum())
    if bad:
        raise NotFinite(
            f"the features of {bad} of {len(features)} training images are not finite: the pretrained weights, or "
            "their precision, do not go with these images.\n"
            "Set trainer.precision=32-true and cache.dtype=fp32, or other model.weights."
        )


def head_training(loss: Loss, settings: Mapping[str, Any], *, mixup: float, task: Task) -> HeadTraining:
    """How one head is trained on features.

    Args:
        loss: The training loss.
        settings: ``recipe.head_training``.
        mixup: alpha; it counts only where the task's targets can be blended.
        task: Knows whether they can.
    """
    alpha = mixup if task.allows_soft_targets else 0.0
    return HeadTraining(loss, lr=settings["lr"], weight_decay=settings["weight_decay"], mixup=alpha)


@torch.no_grad()
def solve_layer(task: Task, head: nn.Module, last: nn.Linear, features: Tensor, targets: Tensor) -> None:
    """Solves the last layer of a head in place.

    Args:
        task: Says what is predicted.
        head: In eval mode.
        last: Its ``linear_layer``.
        features: ``(N, F)``.
        targets: ``(N,)`` or ``(N, K)``.
    """
    before = head[:-1] if isinstance(head, nn.Sequential) else nn.Identity()
    weight, bias = solve_linear_head(
        before(features.to(last.weight.device)).cpu().numpy(),
        task.solver_targets(targets).numpy(),
        task.solved_as,
        num_outputs=task.num_outputs,
    )
    for parameter, value in ((last.weight, weight), (last.bias, bias)):
        parameter.copy_(torch.as_tensor(value))


def _mix(module: "FineTuner") -> Mix | None:
    plugins = [plugin for plugin in module.plugins if plugin.stored_as == "activations"]

    def mix(features: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        for plugin in plugins:
            features, targets = plugin.train_batch(features, targets, generator)
        return features, targets

    return mix if plugins else None


def offer_untrained(module: "FineTuner") -> None:
    """Validates the solved head and keeps it as ``best``: from here on there is always a model on disk."""
    values = module.score(module.trainer.datamodule.val_dataloader())  # pyright: ignore[reportAttributeAccessIssue]
    kept: Any = module.trainer.checkpoint_callback
    kept.offer(module.trainer, values, epoch=-1)
    if module.task.metric not in values:
        return
    module.scores[-1] = Score.of(values, module.task.metric)
    if module.global_rank == 0:
        print(f"solved head  {module.task.metric} {values[module.task.metric]:.4f}", flush=True)


def keep_untrained(module: "FineTuner") -> None:
    """Leaves the checkpoint ``last`` of a run that takes no step: what is ``best``, where it was validated."""
    kept: Any = module.trainer.checkpoint_callback
    if not (kept.folder / "best").is_dir():
        kept.write(module.trainer, "last")
    else:
        kept.attempt(
            module.trainer,
            lambda: link(kept.folder / "best", kept.folder / "last") if module.global_rank == 0 else None,
        )
    module.trainer.strategy.barrier()


def head_features(module: "FineTuner", data: DataModule, later: Sequence[str]) -> tuple[Tensor, Tensor]:
    """``(R, F)`` of the images that can be read, on the CPU, and their targets."""
    stored = module.cache.features(module, data, later)
    if stored is not None:
        readable = (stored.row >= 0).nonzero().flatten()
        module.bad_images.record("train", stored.failures)
        return stored.take(readable)[0].float().cpu(), data.splits["train"].targets[readable]
    prefix, features, targets = module.model.split(HEAD)[0], [], []
    with module.trainer.precision_plugin.forward_context():
        for batch in data.view_loader("train", 0, data.eval_transform):
            module.bad_images.record("train", batch.failures)
            if len(batch.index):
                images = normalize(batch.images.to(module.device), module.model.input_spec)
                features.append(prefix(images).float().cpu())
                targets.append(batch.targets)
    return torch.cat(features), torch.cat(targets)
