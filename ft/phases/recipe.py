"""What a run does when nobody says more: which stages open, for how long, at which rates, and when it is enough.

    full     everything that ``model.open`` names, from the first epoch to the last
    linear   the head alone, computed instead of trained
    head     the head alone, trained on stored features
    auto     the head is solved; then the last stages open, deeper from phase to phase, while validation still improves

        stem  stage1  stage2  stage3  stage4  stage5 [stage6  head]     phase 1
        stem  stage1  stage2  stage3 [stage4  stage5  stage6  head]     phase 2, if phase 1 was worth its time

A recipe is a value: everything follows from the epoch and from what validation has said so far, so that a resumed run
does what a whole one would. Plugins have their say after it: they may keep closed what it opens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ft.errors import require
from ft.phases.plan import HEAD


@dataclass(frozen=True)
class PlannedPhase:
    """One part of a run.

    Attributes:
        open: Stages that train.
        epochs: Its length.
        views: Stored views of each image; ``None`` stores only where nothing is changed by it.
        rate: What the schedule's rate is multiplied with.
    """

    open: frozenset[str]
    epochs: int
    views: int | None
    rate: float


@dataclass(frozen=True)
class Recipe:
    """What a run does.

    Attributes:
        name: For the header.
        phases: In order; the schedule runs once in each.
        head: How it begins: ``random``, or ``solved``.
        head_rate: What the rate of a solved head is multiplied with, besides.
        layer_decay: Rate of a stage, relative to the one above it.
        min_gain: Difference of the task's metric that counts: less is chance (``ft.phases.worth``).
        min_loss_gain: Share of the validation loss that counts where the metric is no worse.
        always: So many phases are gone through in any case.
        frozen_statistics: Normalisation layers of open stages keep their running statistics.
        mixup: alpha of the shares by which training images, or what is stored of them, are blended; 0: none.
        head_training: How a head is trained on features: a solved one of more than one layer, and any of recipe=head.
        trains: Off where the head is computed, or trained on features, and that is all.
        head_ready: The head comes as it is to be: it was trained on features with many others.
    """

    name: str
    phases: tuple[PlannedPhase, ...]
    head: str
    head_rate: float = 1.0
    layer_decay: float = 1.0
    min_gain: float = -math.inf
    min_loss_gain: float = math.inf
    always: int = 0
    frozen_statistics: bool = False
    mixup: float = 0.0
    head_training: Mapping[str, Any] = field(default_factory=dict)
    trains: bool = True
    head_ready: bool = False

    @property
    def epochs(self) -> int:
        """Of all phases."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def computes_head(self) -> bool:
        """Whether there is a head worth keeping before the first step of training."""
        return self.head == "solved" or not self.trains

    @property
    def ever_open(self) -> frozenset[str]:
        """All stages that any phase opens."""
        return frozenset().union(*(phase.open for phase in self.phases))

    def starts(self) -> list[int]:
        """The epoch in which each phase begins."""
        return [sum(phase.epochs for phase in self.phases[:at]) for at in range(len(self.phases))]

    def number(self, epoch: int) -> int:
        """Which phase an epoch belongs to, from 0; the last one goes on for ever."""
        return max((at for at, start in enumerate(self.starts()) if start <= epoch), default=0)

    def at(self, epoch: int) -> tuple[PlannedPhase, int]:
        """The phase of an epoch, and the epoch in which it began."""
        number = self.number(epoch)
        return self.phases[number], self.starts()[number]

    def rate(self, epoch: int, stage: str, stages: Sequence[str]) -> float:
        """What the schedule's rate is multiplied with for a stage."""
        phase, _ = self.at(epoch)
        if stage not in stages:
            return phase.rate
        depth = len(stages) - 1 - stages.index(stage)
        return phase.rate * (self.head_rate if depth == 0 else self.layer_decay ** (depth - 1))


def full(open: frozenset[str], *, epochs: int, head: str, views: int | None) -> Recipe:
    """One phase with everything that may train."""
    return Recipe("full", (PlannedPhase(open, epochs, views, 1.0),), head)


def computed_head() -> Recipe:
    """The head alone, and not a step of training."""
    return Recipe("linear", (PlannedPhase(frozenset({HEAD}), 1, 1, 1.0),), "solved", trains=False)


def trained_head(head: str, mixup: float) -> Recipe:
    """The head alone, trained on stored features.

    Args:
        head: How it begins: ``random``, or ``solved``.
        mixup: alpha of the shares by which features are blended; 0: none.
    """
    return Recipe("head", (PlannedPhase(frozenset({HEAD}), 1, 1, 1.0),), head, mixup=mixup, trains=False)


def deepening(
    settings: Mapping[str, Any],
    stages: Sequence[str],
    *,
    num_images: int,
    batch_size: int,
    open: frozenset[str],
    head: str | None,
) -> Recipe:
    """The phases of ``recipe=auto`` for a model and a data set.

    Args:
        settings: ``conf/recipe/auto.yaml``.
        stages: All stages of the model.
        num_images: For training.
        batch_size: Images a step of the optimizer.
        open: Stages that may open at all; where it is not all of them, they are open in every phase.
        head: ``random`` or ``solved``; ``None`` is solved.
    """
    body = [stage for stage in stages if stage != HEAD]
    per_epoch = max(1, num_images // batch_size)
    phases: list[PlannedPhase] = []
    for entry in settings["phases"]:
        depth = min(len(body), max(1, math.ceil(entry["depth"] * len(body) - 1e-9)))
        opened = frozenset([*body[len(body) - depth :], HEAD])
        if open != frozenset(stages):
            opened = open
        epochs = min(settings["max_epochs"], max(settings["min_epochs"], round(entry["steps"] / per_epoch)))
        if phases and phases[-1].open == opened:
            # Of a model with few stages two depths may be one.
            phases[-1] = replace(phases[-1], epochs=phases[-1].epochs + epochs, views=entry["views"])
        else:
            phases.append(PlannedPhase(opened, epochs, entry["views"], entry["rate"]))
    return Recipe(
        "auto",
        tuple(phases),
        head or "solved",
        head_rate=settings["head_rate"] if head != "random" else 1.0,
        layer_decay=settings["layer_decay"],
        min_gain=settings["min_gain"],
        # Runs that were begun without it, and recipes of forks, go on by the metric alone.
        min_loss_gain=settings.get("min_loss_gain", math.inf),
        always=settings["always"],
        frozen_statistics=settings["frozen_statistics"],
        mixup=settings["mixup"],
    )


def within(recipe: Recipe, epochs: int) -> Recipe:
    """The same in at most so many epochs: every phase in proportion, the later ones left out where there are too few.

    Raises:
        UserError: ``epochs`` is below 1.
    """
    require(epochs >= 1, "trainer.max_epochs", "must be at least 1 for recipe=auto, or null", epochs)
    total, phases, used = recipe.epochs, [], 0
    for number, phase in enumerate(recipe.phases):
        end = round(sum(each.epochs for each in recipe.phases[: number + 1]) * epochs / total)
        length = max(1, end - used)
        if used + length <= epochs:
            phases.append(replace(phase, epochs=length))
            used += length
    if used < epochs:
        phases[-1] = replace(phases[-1], epochs=phases[-1].epochs + epochs - used)
    return replace(recipe, phases=tuple(phases))
