"""``model.head_init=solved``: the new head starts as the best linear head on the features of the pretrained backbone.

It costs one pass over the training images and takes the place of a warm-up of the head. What trains from there wants a
smaller rate than a random head does.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ft.data.module import DataModule
from ft.data.transforms import normalize
from ft.errors import UserError
from ft.optim.head_solver import solve_linear_head
from ft.phases.plan import HEAD

if TYPE_CHECKING:
    from ft.module import FineTuner

CHOICES = ("random", "solved")
# Before the last layer, what does not change features in eval mode, or not with what it was trained on.
HARMLESS = (nn.Dropout, nn.Identity, nn.LayerNorm)


def linear_layer(model: Any) -> nn.Linear:
    """The head's only layer that is to be solved.

    Raises:
        UserError: The model cannot be cut before its head, or its head is more than a linear layer.
    """
    parts = model.split(HEAD)
    head = parts[1] if parts else None
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    last = layers[-1]
    if not isinstance(last, nn.Linear) or not all(isinstance(layer, HARMLESS) for layer in layers[:-1]):
        raise UserError(
            "model.head_init=solved needs a linear head on features: set model.head.hidden=[] and model.head.norm to "
            "none or layer, or model.head_init=random."
        )
    return last


@torch.no_grad()
def init_head(module: "FineTuner", data: DataModule, *, later: Sequence[str]) -> None:
    """Solves the head on the training images as evaluation sees them, and sets it in every process alike.

    Args:
        module: The backbone is what it was when training began.
        data: Its images.
        later: Boundaries of phases to come: the same pass over the images stores their activations.
    """
    last = linear_layer(module.model)
    head = module.model.split(HEAD)[1]
    before = head[:-1] if isinstance(head, nn.Sequential) else nn.Identity()
    module.eval()
    features, targets = _features(module, data, later)
    module.eval()
    task = module.task
    weight, bias = solve_linear_head(
        before(features).numpy(),
        task.solver_targets(targets).numpy(),
        task.solved_as,
        num_outputs=task.num_outputs,
    )
    module.train()
    # The processes solve the same problem, and the last digits may still differ.
    for parameter, value in ((last.weight, weight), (last.bias, bias)):
        solved: Tensor = module.trainer.strategy.broadcast(torch.as_tensor(value))
        parameter.copy_(solved.to(parameter))


def offer_untrained(module: "FineTuner") -> None:
    """Validates the solved head and keeps it as ``best``: from here on there is always a model on disk."""
    values = module.score(module.trainer.datamodule.val_dataloader())  # pyright: ignore[reportAttributeAccessIssue]
    module.watched_first = values.get(module.task.metric)
    kept: Any = module.trainer.checkpoint_callback
    kept.offer(module.trainer, values, epoch=-1)
    if module.global_rank == 0 and module.watched_first is not None:
        print(f"solved head  {module.task.metric} {module.watched_first:.4f}", flush=True)


def keep_untrained(module: "FineTuner") -> None:
    """Leaves the checkpoint ``last`` of a run that takes no step."""
    kept: Any = module.trainer.checkpoint_callback
    module.trainer.save_checkpoint(kept.folder / "last")


def _features(module: "FineTuner", data: DataModule, later: Sequence[str]) -> tuple[Tensor, Tensor]:
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
