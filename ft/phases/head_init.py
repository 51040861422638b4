"""``model.head_init=solved``: the new head starts as the best linear head on the features of the pretrained backbone.

It costs one pass over the training images and takes the place of a warm-up of the head. What trains from there wants a
smaller rate than a random head does.
"""

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
def init_head(module: "FineTuner", data: DataModule) -> None:
    """Solves the head on the training images as evaluation sees them, and sets it in every process alike."""
    last = linear_layer(module.model)
    prefix, head = module.model.split(HEAD)
    before = head[:-1] if isinstance(head, nn.Sequential) else nn.Identity()
    module.eval()
    features, targets = [], []
    with module.trainer.precision_plugin.forward_context():
        for batch in data.sample_loader("train", len(data.splits["train"].targets), num_workers=data.num_workers):
            if len(batch.index):
                images = normalize(batch.images.to(module.device), module.model.input_spec)
                features.append(before(prefix(images)).float().cpu())
                targets.append(batch.targets)
    module.train()
    task = module.task
    weight, bias = solve_linear_head(
        torch.cat(features).numpy(),
        task.solver_targets(torch.cat(targets)).numpy(),
        task.solved_as,
        num_outputs=task.num_outputs,
    )
    # The processes solve the same problem, and the last digits may still differ.
    for parameter, value in ((last.weight, weight), (last.bias, bias)):
        solved: Tensor = module.trainer.strategy.broadcast(torch.as_tensor(value))
        parameter.copy_(solved.to(parameter))
