"""While the first stages are frozen, what they compute is computed once: the rest trains on stored activations.

    phase   stem  stage1  stage2  [stage3  head]        the boundary is stage3
            images -- once for each stored view --> activations of every image before stage3 (and of later boundaries)
            each epoch: gather --> stage3 --> head      validation likewise, on its own stored activations

Stored are views: view 0 is the plain image, the others are drawn with the augmentation that is on; an epoch sees one of
them of each image. Nothing is stored where that would change more than which view an image is seen in: a plugin has to
say that what it does to images may be done once a view (``stored_as``).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ft.cache.activations import Stored
from ft.data.module import DataModule
from ft.phases.activation_store import ActivationStore
from ft.phases.activation_writers import say
from ft.phases.budget import Budget
from ft.phases.cache_options import CacheOptions
from ft.phases.plan import HEAD, Phase, boundary
from ft.phases.stored_views import StoredViews
from ft.plugin import overrides

if TYPE_CHECKING:
    from ft.module import FineTuner


class PrefixCache:
    """The activations a phase trains on.

    Args:
        options: What may be stored.
        seed: Of the views.
        budget: Leaves out views that would not come in time.

    Attributes:
        store: Where they are.
        suffix: What the batches of the current phase are to be run through; ``None`` where they are images.
        why_not: Why the current phase is not cached, for people; empty where it is.
    """

    def __init__(self, options: CacheOptions, *, seed: int, budget: Budget) -> None:
        self.options = options
        self.seed = seed
        self.budget = budget
        self.store = ActivationStore(options, seed=seed, budget=budget)
        self.suffix: Callable[[Any], Tensor] | None = None
        self.why_not = ""
        self._sources: dict[str, StoredViews] = {}
        self._splits: dict[str, Any] = {}
        self._told: set[str] = set()

    def enter(
        self, module: "FineTuner", data: DataModule, phase: Phase, views: int | None, later: Sequence[str] = ()
    ) -> None:
        """Gets ready what a phase trains on, computing what is missing.

        Args:
            module: Has entered the phase.
            data: Its images.
            phase: What trains.
            views: Stored views an image; ``None`` allows only what changes nothing: one view of images that no plugin
                changes.
            later: Boundaries of phases to come, whose activations the same pass over the images gives.
        """
        at = boundary(phase.stages, module.stage_names)
        self.suffix, self._sources = None, {}
        self.why_not = self._refusal(module, at, views)
        if not self.why_not:
            wanted = [at, *(each for each in later if self._split(module, each) is not None and each != at)]
            train = [self.store.get(module, data, "train", 0, wanted)]
            for view in range(1, views or 1):
                # A further view that would not come in time is left out.
                if self.budget.allows(2 * self.store.pass_seconds):
                    train.append(self.store.get(module, data, "train", view, wanted))
            val = self.store.get(module, data, "val", 0, wanted) if "val" in data.splits else None
            if None in train or ("val" in data.splits and val is None):
                self.why_not = "there is no room for its activations: raise cache.memory or cache.disk"
            else:
                found: list[Stored] = [each for each in train if each is not None]
                self._sources["train"] = StoredViews(found, data.splits["train"].targets, at, seed=self.seed)
                if val is not None:
                    self._sources["val"] = StoredViews([val], data.splits["val"].targets, at, seed=self.seed)
                self.suffix = self._split(module, at)[1]
                self.store.remember(module, at, {name: len(each.views) for name, each in self._sources.items()})
        module.train()
        if self.options.choice is not None:
            choice = self.options.choice
            torch.set_num_threads(choice.train_threads if self.suffix is None else choice.cached_threads)
        if self.why_not and self.why_not not in self._told and at != module.stage_names[0]:
            self._told.add(self.why_not)
            say(module, f"cache: frozen stages are computed in every epoch: {self.why_not}")

    def source(self, split: str, module: "FineTuner") -> StoredViews | None:
        """What gives a split's batches in this phase."""
        if split != "train" and any(plugin.changes_evaluation for plugin in module.plugins):
            # An average of weights that is validated need not agree below the boundary with what trains.
            return None
        return self._sources.get(split)

    def features(self, module: "FineTuner", data: DataModule, later: Sequence[str]) -> Stored | None:
        """What reaches the head from the plain training images; one pass stores what later phases need too.

        Args:
            module: Whose backbone is still what it was when training began.
            data: Its images.
            later: Boundaries of the phases to come.
        """
        if not self.options.activations or self._split(module, HEAD) is None:
            return None
        wanted = [HEAD, *(each for each in later if each != HEAD and self._split(module, each) is not None)]
        if "val" in data.splits:
            self.store.get(module, data, "val", 0, wanted)
        return self.store.get(module, data, "train", 0, wanted)

    def release(self) -> None:
        """Forgets what only an earlier phase read, and what can be read again."""
        self.store.release(view for source in self._sources.values() for view in source.views)

    def _refusal(self, module: "FineTuner", at: str, views: int | None) -> str:
        """Why a phase cannot be cached, or nothing."""
        if not self.options.activations:
            return "cache=off"
        if at == module.stage_names[0]:
            return "every stage is open"
        for plugin in module.plugins:
            if overrides(plugin, "train_batch") and (views is None or plugin.stored_as == "never"):
                return f"plugins.{plugin.name} changes the images of every batch"
            if views is None and overrides(plugin, "train_transform"):
                return f"plugins.{plugin.name} changes the images of every epoch"
        if module.optimizer_options.full_batch:
            return "a full-batch optimizer keeps its own"
        if self._split(module, at) is None:
            return f"this model cannot be cut before {at}"
        return ""

    def _split(self, module: "FineTuner", at: str) -> Any:
        """Prefix and suffix; ``None`` where there is no cut."""
        if at not in self._splits:
            self._splits[at] = module.model.split(at)
        return self._splits[at]
