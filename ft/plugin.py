"""The plugin contract: a Lightning Callback with a few hooks that take a value and return the value to use.

The loop, in the order things happen; ``*`` folds a hook over ``plugins=[...]``, first plugin first:

    data.setup; plugin.setup                                  # change the network here, before the optimizer exists
    loss   = * train_loss(task.loss)
    groups = * param_groups(default_groups, model)            # ALL parameters, frozen ones too
    rates  = one LambdaLR over schedule and * lr_factor
    on_fit_start                                              # DDP has wrapped the model; epoch 0 on a resumed run
    on_train_start                                            # state is restored: phases.apply(* open_stages)
    for epoch:
        on_train_epoch_start                                  # phases.apply again
        for images, targets, index in loader:                 # views made by * train_transform
            images, targets = * train_batch(images, targets)
            loss(model(images), targets).backward(); optimizer.step()
        validate on plain images with the task's plain loss

Freezing is a value, not an act: ``open_stages`` returns which stages train, and only ``ft.phases`` applies it.
The prefix ``train_`` promises that evaluation is untouched.
"""

from typing import Any, ClassVar

from lightning.pytorch import Callback
from torch import Generator, Tensor, nn

from ft.data.transforms import Transform
from ft.optim.groups import ParamGroup
from ft.tasks.task import Loss


class Plugin(Callback):
    """Base class; every hook is the identity until it is overridden.

    Attributes:
        changes_evaluation: Whether the plugin changes what evaluation computes (EMA, LoRA): it has to say so.
    """

    changes_evaluation: ClassVar[bool] = False

    def open_stages(self, open: frozenset[str], epoch: int, stages: tuple[str, ...]) -> frozenset[str]:
        """Which stages train during ``epoch``.

        Args:
            open: What ``model.open`` and the plugins before this one say.
            epoch: From 0.
            stages: All stages, from the stem to the head.
        """
        del epoch, stages
        return open

    def train_transform(self, transform: Transform) -> Transform:
        """Wraps the per-image transform of training: Pillow image to ``(C, H, W)`` ``uint8``, in the workers.

        It may draw from torch's global generator, which is set from (seed, epoch, index) for every image.
        """
        return transform

    def train_batch(self, images: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Changes a training batch, on the device.

        Args:
            images: ``(B, C, H, W)``, normalised.
            targets: ``(B,)`` or ``(B, K)``.
            generator: The only source of randomness, on the CPU, set from (seed, epoch, batch).
        """
        del generator
        return images, targets

    def train_loss(self, loss: Loss) -> Loss:
        """Wraps the training loss, a function of logits ``(B, K)`` and targets; validation keeps the task's own."""
        return loss

    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        """Changes the optimizer's groups; every parameter must stay in exactly one."""
        del model
        return groups

    def lr_factor(self, factor: float, step: int, group: ParamGroup) -> float:
        """Changes what a group's rate is multiplied with at an optimizer step."""
        del step, group
        return factor


def overrides(plugin: Plugin, hook: str) -> bool:
    """Whether a plugin does anything in a hook."""
    return getattr(type(plugin), hook) is not getattr(Plugin, hook)


def fold(plugins: list[Plugin], hook: str, value: Any, *args: Any) -> Any:
    """Passes a value through one hook of every plugin, in order."""
    for plugin in plugins:
        value = getattr(plugin, hook)(value, *args)
    return value
