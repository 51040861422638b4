"""The plugin contract: a Lightning Callback with a few hooks that take a value and return the value to use.

The loop, in the order things happen; ``*`` folds a hook over ``plugins=[...]``, first plugin first:

    model  = * change_model(model)                            # adapters: in training and in evaluation alike
    each plugin.prepare(module, trainer, data)                # everything is built, nothing is written: refuse here
    views  = * train_transform(transform)
    data.setup; plugin.setup
    loss   = * train_loss(task.loss)
    groups = * param_groups(default_groups, model)            # ALL parameters, frozen ones too
    rates  = one LambdaLR over schedule and * lr_factor
    on_fit_start                                              # DDP has wrapped the model; epoch 0 on a resumed run
    on_train_start                                            # state is restored: begin_epoch, also inside an epoch
    for epoch:
        phases.apply(* open_stages, * open_tensors)
        each plugin.begin_epoch(epoch, module)
        for images, targets, index in loader:
            images, targets = * train_batch(images, targets)
            loss(model(images), targets).backward(); optimizer.step()
        validate on plain images with the task's plain loss
    plain  = * export_model(model)                            # last plugin first: adapters merged

Freezing is a value, not an act: ``open_stages`` and ``open_tensors`` return what trains, and only ``ft.phases`` applies
it. The prefix ``train_`` promises that evaluation is untouched.

What depends on time is computed from the epoch, the step or the values watched so far, never counted: a resumed run
then cannot disagree with a whole one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lightning.pytorch import Callback, Trainer
from torch import Generator, Tensor, nn

from ft.data.module import DataModule
from ft.data.transforms import Transform
from ft.optim.groups import ParamGroup
from ft.tasks.task import Loss

if TYPE_CHECKING:
    from ft.module import FineTuner


class Plugin(Callback):
    """Base class; every hook is the identity until it is overridden.

    Attributes:
        name: The key under ``plugins`` in the config; set when the plugin is built.
        changes_evaluation: The plugin changes what evaluation computes (EMA, LoRA): it has to say so.
        needs_whole_weights: The plugin reads or writes parameters or gradients itself: it does not go with
            ``trainer=fsdp``, where each process holds a part of every one.
        needs_pretrained: Of no use on random weights: it is left out there, and the run says so.
        stored_as: What its ``train_batch`` is good for where the frozen stages' activations are stored: ``views``, it
            may be done once for each stored view of an image; ``activations``, it is as right on what crosses a
            boundary; ``never``, it needs the images in every step, and nothing is stored.
        exclusive: Roles that only one plugin of a run can have, as words for the message:
            ``{"averages the weights"}``.
        neutral: Settings under which the plugin changes nothing; a contract test trains with them.
    """

    name: str = ""
    changes_evaluation: ClassVar[bool] = False
    needs_whole_weights: ClassVar[bool] = False
    needs_pretrained: ClassVar[bool] = False
    stored_as: str = "never"
    exclusive: ClassVar[frozenset[str]] = frozenset()
    neutral: ClassVar[Mapping[str, Any] | None] = None

    @property
    def state_key(self) -> str:
        """The name its state has in a checkpoint."""
        return f"plugins.{self.name or type(self).__name__}"

    def change_model(self, model: nn.Module) -> nn.Module:
        """Changes the network; also called before evaluation and export, where there is no trainer."""
        return model

    def export_model(self, model: nn.Module) -> nn.Module:
        """Undoes ``change_model`` without changing what the model computes in eval mode."""
        return model

    def prepare(self, module: "FineTuner", trainer: Trainer, data: DataModule) -> None:
        """Looks at the run before anything is written.

        Args:
            module: With ``model``, ``task``, ``watched``, ``optimizer_options``.
            trainer: Its ``default_root_dir`` is the run folder, from ``setup`` on.
            data: With ``splits`` and ``options``.

        Raises:
            UserError: The plugin does not go with this model, task or trainer.
            Answer: The user asked a question and not for a run.
        """

    def open_stages(self, open: frozenset[str], epoch: int, stages: tuple[str, ...]) -> frozenset[str]:
        """Which stages train during ``epoch``.

        Args:
            open: What ``model.open`` and the plugins before this one say.
            epoch: From 0.
            stages: All stages, from the stem to the head.

        Returns:
            A part of ``open``, so that several plugins agree whatever their order: a stage trains if all want it.
        """
        del epoch, stages
        return open

    def open_tensors(self, open: frozenset[str], model: nn.Module) -> frozenset[str]:
        """Which tensors of the open stages change: a part of ``open``.

        Args:
            open: Names of parameters and buffers. A normalisation layer whose running statistics are left out is in
                eval mode.
            model: Gives the modules behind the names.
        """
        del model
        return open

    def begin_epoch(self, epoch: int, module: "FineTuner") -> None:
        """Sets what is constant for an epoch, from the epoch alone; called twice for the epoch a run is resumed in.

        In Lightning's ``on_train_epoch_start`` it would be missed by a run that is resumed inside an epoch.
        """

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

    def lr_factor(self, factor: float, step: int, group: ParamGroup, steps_per_epoch: int) -> float:
        """Changes what a group's rate is multiplied with.

        Args:
            factor: Of the schedule and the plugins before this one.
            step: Of the optimizer, from 0.
            group: With ``stage``, ``lr`` and ``lr_scale``; ``stage`` is ``all`` for optimizers with one group.
            steps_per_epoch: Of the optimizer: ``step / steps_per_epoch`` is the time in epochs.
        """
        del step, group, steps_per_epoch
        return factor


def overrides(plugin: Plugin, hook: str) -> bool:
    """Whether a plugin does anything in a hook."""
    return getattr(type(plugin), hook) is not getattr(Plugin, hook)


def fold(plugins: list[Plugin], hook: str, value: Any, *args: Any) -> Any:
    """Passes a value through one hook of every plugin, in order."""
    for plugin in plugins:
        value = getattr(plugin, hook)(value, *args)
    return value
