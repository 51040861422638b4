"""Gradual unfreezing: train the head first, then open the backbone one stage at a time.

    epoch 0-1   stem  stage1  stage2  stage3  stage4  [head]
    epoch 2-3   stem  stage1  stage2  stage3  [stage4  head]

When the next stage opens is told by epochs, by an explicit list, or by the validation metric: a plateau opens it.
From ULMFiT (Howard & Ruder 2018, https://arxiv.org/abs/1801.06146, section 3.3; its discriminative rates, section 3.1,
are ``lr_decay``). Turn on with ``plugins=[gradual_unfreezing]``.
"""

import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer

from ft import Answer, FineTuner, Plugin, UserError
from ft.data.module import DataModule
from ft.errors import require
from ft.kinds import fits
from ft.model.stages import require_stages
from ft.optim.groups import ParamGroup
from ft.optim.schedules import count_reductions
from ft.plot import grid

KEY = "plugins.gradual_unfreezing"


def num_open_stages(phase: int, *, stages_per_phase: int, up_to: int) -> int:
    """How many stages, counted from the head backwards, train in the phase-th phase (from 0)."""
    return min(up_to, 1 + phase * stages_per_phase)


def phase_starts(epochs_per_phase: int | Sequence[int], num_phases: int) -> list[int]:
    """The epoch in which each phase begins; of a list that is too short the last length is repeated."""
    if isinstance(epochs_per_phase, int):
        return [epochs_per_phase * phase for phase in range(num_phases)]
    lengths = [*epochs_per_phase, *[epochs_per_phase[-1]] * num_phases]
    return [0, *accumulate(lengths)][:num_phases]


def plateau_starts(watched: Sequence[float], *, mode: str, patience: int) -> list[int]:
    """The epoch in which each phase so far began: one more after every plateau.

    Args:
        watched: The metric after each epoch.
        mode: ``max`` or ``min``.
        patience: Epochs without improvement that are still waited for.
    """
    starts = [0]
    for epoch in range(1, len(watched) + 1):
        if count_reductions(list(watched[:epoch]), mode=mode, patience=patience, cooldown=0) >= len(starts):
            starts.append(epoch)
    return starts


class GradualUnfreezing(Plugin):
    """Opens stages head first.

    Args:
        epochs_per_phase: Epochs before the next stage opens, at least 1; a list gives each phase its own.
        schedule: Explicit instead: a list of ``{epoch, open}`` with the names of the stages that train from then on.
        plateau: Instead of epochs: epochs without improvement of the task's metric that are still waited for, at least
            0, before the next stage opens.
        stages_per_phase: Stages that open together, at least 1.
        up_to: How many stages ever open, the head included; ``None`` for all that the epochs allow.
        lr_decay: In ``(0, 1]``: rate of a stage, relative to the one above it.
        warmup: Epochs, at least 0, in which the rate rises from nearly 0 at the beginning of each phase.
        print_schedule: Prints the schedule with parameters, rates and measured cost, instead of training.
        plot: Draws which stage was open when.

    Raises:
        UserError: A value is out of range, a stage is unknown, or the epochs do not suffice for ``up_to``.
    """

    needs_pretrained = True
    neutral: ClassVar = {"schedule": "all"}

    def __init__(
        self,
        *,
        epochs_per_phase: int | list[int],
        schedule: list[dict[str, Any]] | str | None,
        plateau: int | None,
        stages_per_phase: int,
        up_to: int | None,
        lr_decay: float,
        warmup: float,
        print_schedule: bool,
        plot: bool,
    ) -> None:
        lengths = [epochs_per_phase] if isinstance(epochs_per_phase, int) else epochs_per_phase
        valid = len(lengths) > 0 and all(isinstance(length, int) and length >= 1 for length in lengths)
        require(valid, f"{KEY}.epochs_per_phase", "must be at least 1, or a list of such", epochs_per_phase)
        require(plateau is None or plateau >= 0, f"{KEY}.plateau", "must be null or at least 0", plateau)
        require(stages_per_phase >= 1, f"{KEY}.stages_per_phase", "must be at least 1", stages_per_phase)
        require(up_to is None or up_to >= 1, f"{KEY}.up_to", "must be null or at least 1", up_to)
        require(0 < lr_decay <= 1, f"{KEY}.lr_decay", "must be in (0, 1]", lr_decay)
        require(warmup >= 0, f"{KEY}.warmup", "must be at least 0", warmup)
        require(schedule is None or plateau is None, f"{KEY}.plateau", "must be null beside a schedule", plateau)
        self.epochs_per_phase = epochs_per_phase
        self.schedule = [{"epoch": 0, "open": schedule}] if isinstance(schedule, str) else schedule
        self.plateau = plateau
        self.stages_per_phase = stages_per_phase
        self.up_to = up_to
        self.lr_decay = lr_decay
        self.warmup = warmup
        self.print_schedule = print_schedule
        self.plot = plot
        self.stages: tuple[str, ...] = ()
        self.watched: list[float] = []
        self.mode = "max"
        self.opened: dict[int, list[str]] = {}

    def prepare(self, module: FineTuner, trainer: Trainer, data: DataModule) -> None:
        self.stages, self.watched, self.mode = module.stage_names, module.watched, module.task.mode
        every, limit = trainer.check_val_every_n_epoch, trainer.limit_val_batches
        if self.plateau is not None and (every != 1 or limit == 0):
            raise UserError(
                f"{KEY}.plateau needs a validation after every epoch: set trainer.check_val_every_n_epoch=1 and "
                f"trainer.limit_val_batches above 0, got {every} and {limit}."
            )
        if self.lr_decay < 1 and module.optimizer_options.single_group:
            name = module.optimizer_options.name
            raise UserError(f"{KEY}.lr_decay needs a rate for each stage, and optimizer={name} has one: set it to 1.")
        if self.schedule is not None:
            self._check_schedule(trainer.max_epochs)
        elif self.up_to is not None:
            self._check_up_to(trainer.max_epochs)
        if closed := sorted(set(self._all_stages()) - module.start_open):
            raise UserError(
                f"{KEY} opens {closed[0]}, but model.open keeps it frozen: set model.open=all, or a smaller up_to."
            )
        if self.print_schedule:
            raise Answer(describe(self._phases(trainer.max_epochs), module, data, self.lr_decay))

    def open_stages(self, open: frozenset[str], epoch: int, stages: tuple[str, ...]) -> frozenset[str]:
        return open & frozenset(self._open_in(self._phase(epoch), stages))

    def lr_factor(self, factor: float, step: int, group: ParamGroup, steps_per_epoch: int) -> float:
        position = step / steps_per_epoch
        since = position - self._starts()[self._phase(int(position))]
        warm = 1.0 if since >= self.warmup else max(since / self.warmup, 1e-3)
        depth = self.stages[::-1].index(group["stage"]) if group["stage"] in self.stages else 0
        return factor * warm * self.lr_decay**depth

    def begin_epoch(self, epoch: int, module: FineTuner) -> None:
        assert module.phase is not None
        self.opened[epoch] = sorted(module.phase.stages)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.log(f"plugins/{self.name}/open_stages", float(len(self.opened[trainer.current_epoch])))

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.plot and trainer.is_global_zero:
            cells = [[stage in self.opened[epoch] for epoch in sorted(self.opened)] for stage in self.stages]
            grid(
                Path(trainer.default_root_dir) / f"{self.name}.png",
                cells,
                rows=self.stages,
                columns=[str(epoch) for epoch in sorted(self.opened)],
                xlabel="epoch",
                title="open stages",
            )

    def state_dict(self) -> dict[str, Any]:
        return {"opened": self.opened}  # for the picture alone: what is open follows from the epoch

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.opened = dict(state_dict["opened"])

    def _starts(self) -> list[int]:
        """The epoch in which each phase that is known begins."""
        if self.schedule is not None:
            return [entry["epoch"] for entry in self.schedule]
        if self.plateau is not None:
            return plateau_starts(self.watched, mode=self.mode, patience=self.plateau)[: self._num_phases()]
        return phase_starts(self.epochs_per_phase, self._num_phases())

    def _phase(self, epoch: int) -> int:
        return bisect_right(self._starts(), epoch) - 1

    def _num_phases(self) -> int:
        most = min(self.up_to or len(self.stages), len(self.stages))
        return 1 + -(-(most - 1) // self.stages_per_phase)

    def _open_in(self, phase: int, stages: Sequence[str]) -> list[str]:
        if self.schedule is not None:
            named = self.schedule[phase]["open"]
            return list(stages) if named == "all" else [named] if isinstance(named, str) else list(named)
        up_to = min(self.up_to or len(stages), len(stages))
        return list(stages[-num_open_stages(phase, stages_per_phase=self.stages_per_phase, up_to=up_to) :])

    def _all_stages(self) -> list[str]:
        phases = range(len(self.schedule) if self.schedule is not None else self._num_phases())
        return [stage for phase in phases for stage in self._open_in(phase, self.stages)]

    def _phases(self, max_epochs: int | None) -> list[tuple[int, list[str]]]:
        """Start and stages of every phase that begins before the run ends; by plateau: one epoch each at least."""
        starts = self._starts()
        if self.plateau is not None:
            starts = [(self.plateau + 1) * phase for phase in range(self._num_phases())]
        reached = [start for start in starts if not max_epochs or max_epochs < 0 or start < max_epochs]
        return [(start, self._open_in(phase, self.stages)) for phase, start in enumerate(reached)]

    def _check_schedule(self, max_epochs: int | None) -> None:
        assert self.schedule is not None
        for entry in self.schedule:
            valid = (
                set(entry) == {"epoch", "open"} and fits(entry["epoch"], int) and fits(entry["open"], list[str] | str)
            )
            rule = "must be a list of {epoch: E, open: [stages]}"
            require(valid and bool(entry["open"]), f"{KEY}.schedule", rule, entry)
            if entry["open"] != "all":
                names = [entry["open"]] if isinstance(entry["open"], str) else entry["open"]
                require_stages(names, self.stages, f"{KEY}.schedule")
        epochs = [entry["epoch"] for entry in self.schedule]
        rule = f"must only name epochs below trainer.max_epochs={max_epochs}"
        require(not max_epochs or max_epochs < 0 or max(epochs) < max_epochs, f"{KEY}.schedule", rule, epochs)
        rule = "must begin with epoch 0 and name later epochs in order"
        require(bool(epochs) and epochs[0] == 0 and epochs == sorted(set(epochs)), f"{KEY}.schedule", rule, epochs)

    def _check_up_to(self, max_epochs: int | None) -> None:
        assert self.up_to is not None
        require(self.up_to <= len(self.stages), f"{KEY}.up_to", f"must be at most {len(self.stages)} here", self.up_to)
        last = self._phases(None)[-1][0]
        if max_epochs and 0 < max_epochs <= last:
            raise UserError(
                f"{KEY}.up_to={self.up_to} is never reached: its last stage opens in epoch {last} (the first is 0), "
                f"and trainer.max_epochs={max_epochs}.\n"
                f"Set trainer.max_epochs={last + 1} or more, a smaller up_to, or more stages_per_phase."
            )


def describe(phases: Sequence[tuple[int, Sequence[str]]], module: FineTuner, data: DataModule, lr_decay: float) -> str:
    """The schedule as an experiment file to edit: what each phase opens, at which rate, and how long an epoch takes.

    Args:
        phases: First epoch and open stages of each.
        module: Its model is timed on random images.
        data: Says how many images an epoch has.
        lr_decay: Rate of a stage, relative to the one above it.
    """
    size = {stage.name: sum(module.model.get_parameter(name).numel() for name in stage.parameters) for stage in
            module.model.stages()}  # fmt: skip
    lr = module.optimizer_options.lr
    lines = [
        "# @package _global_",
        "# Save as conf/experiment/NAME.yaml, edit, and run: python -m ft.train experiment=NAME ...",
        f"# Stages: {', '.join(module.stage_names)}",
        "# Seconds: measured now on this machine's processor, without reading images.",
        "defaults:",
        "  - override /plugins: [gradual_unfreezing]",
        "plugins:",
        "  gradual_unfreezing:",
        "    schedule:",
    ]
    for start, opened in phases:
        names = [name for name in module.stage_names if name in opened]
        seconds = _seconds_per_image(module, frozenset(names)) * len(data.splits["train"].targets)
        lowest = lr * lr_decay ** (len(module.stage_names) - 1 - module.stage_names.index(names[0]))
        lines.append(
            f"      - {{epoch: {start}, open: [{', '.join(names)}]}}"
            f"  # {sum(size[name] for name in names):,} parameters, "
            f"lr {lr:.2g}{f' down to {lowest:.2g}' if lowest < lr else ''}, {seconds:.0f} s an epoch"
        )
    return "\n".join(lines)


def _seconds_per_image(module: FineTuner, opened: frozenset[str], *, batch: int = 8, repeats: int = 3) -> float:
    """Median time of a forward and a backward pass in which only the open stages get gradients."""
    spec = module.model.input_spec
    images = torch.zeros(batch, spec.channels, spec.height, spec.width).to(memory_format=torch.channels_last)
    for stage in module.model.stages():
        for name in stage.parameters:
            module.model.get_parameter(name).requires_grad_(stage.name in opened)
    module.model.eval()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        module.model(images).sum().backward()
        times.append(time.perf_counter() - started)
    return sorted(times)[repeats // 2] / batch
