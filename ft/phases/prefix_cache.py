"""While the first stages are frozen, what they compute is computed once: the rest trains on stored activations.

    phase   stem  stage1  stage2  [stage3  head]        the boundary is stage3
            images -- once for each stored view --> activations of every image before stage3 (and of later boundaries)
            each epoch: gather --> stage3 --> head      validation likewise, on its own stored activations

Stored are views: view 0 is the plain image, the others are drawn with the augmentation that is on; an epoch sees one of
them of each image. Nothing is stored where that would change more than which view an image is seen in: a plugin has to
say that what it does to images may be done once a view (``stored_as``).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ft.cache.activations import Stored, Writer, key_of, read, weights_hash
from ft.cache.codec import DTYPES, encode
from ft.cache.folder import locked, make_room, place
from ft.data.module import DataModule
from ft.errors import one_of, require
from ft.machine.choice import Choice
from ft.phases.budget import PASS_SHARE, VALIDATION_SHARE, Budget
from ft.phases.frozen_pass import Crossing, from_images, from_stored
from ft.phases.plan import HEAD, Phase, boundary
from ft.phases.stored_views import StoredViews
from ft.plugin import Plugin, overrides

if TYPE_CHECKING:
    from ft.module import FineTuner

GIB = 1 << 30
# Of the end of a run with a budget: the test, by the speed of a pass; checkpoints and summary.
TEST_MARGIN, CLOSING_SECONDS = 2.5, 1.5
KEY = "cache"


@dataclass(frozen=True)
class CacheOptions:
    """What may be stored.

    Attributes:
        activations: Whether anything is.
        dtype: ``auto`` (bf16 where the frozen stages run in bf16, else fp32), ``fp32``, ``bf16`` or ``int8``.
        memory: GiB of activations in memory; beyond it their files are mapped.
        disk: GiB of activations in the cache folder, of all runs together; the oldest go first.
        identity: What the model is, besides its weights.
        images: Fingerprint of each split's images; ``None`` where they cannot be told apart: kept in memory alone.
        drawn_with: What decides how views other than the first are drawn.
        choice: How this machine computes best; ``None`` where nobody has measured: fp32, threads as they are.
    """

    activations: bool
    dtype: str
    memory: float
    disk: float
    identity: Mapping[str, Any]
    images: Mapping[str, str | None]
    drawn_with: Mapping[str, Any]
    choice: Choice | None

    def __post_init__(self) -> None:
        one_of(self.dtype, ("auto", *DTYPES), f"{KEY}.dtype")
        require(self.memory >= 0, f"{KEY}.memory", "must be at least 0 GiB", self.memory)
        require(self.disk >= 0, f"{KEY}.disk", "must be at least 0 GiB", self.disk)

    @property
    def bf16(self) -> bool:
        """Whether the frozen stages run in bf16."""
        return self.choice is not None and self.choice.frozen_precision == "bf16"

    @property
    def stored_dtype(self) -> str:
        return self.dtype if self.dtype != "auto" else "bf16" if self.bf16 else "fp32"


class PrefixCache:
    """The activations a phase trains on.

    Args:
        options: What may be stored.
        seed: Of the views.
        budget: Cuts a pass short that would take too long.

    Attributes:
        suffix: What the batches of the current phase are to be run through; ``None`` where they are images.
        why_not: Why the current phase is not cached, for people; empty where it is.
    """

    def __init__(self, options: CacheOptions, *, seed: int, budget: Budget) -> None:
        self.options = options
        self.seed = seed
        self.budget = budget
        self.pass_seconds = 0.0  # of the last whole pass over the training images
        self.suffix: Callable[[Any], Tensor] | None = None
        self.why_not = ""
        self._sources: dict[str, StoredViews] = {}
        self._splits: dict[str, Any] = {}
        self._kept: dict[str, Stored] = {}  # what is in no file, and what the current phase reads
        self._last: dict[
            tuple[str, int], tuple[str, str]
        ] = {}  # split and view -> boundary and name, of the last phase
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
            train = [self._stored(module, data, "train", 0, wanted)]
            for view in range(1, views or 1):
                # A further view that would not come in time is left out.
                if self.budget.allows(2 * self.pass_seconds):
                    train.append(self._stored(module, data, "train", view, wanted))
            val = self._stored(module, data, "val", 0, wanted) if "val" in data.splits else None
            if None in train or ("val" in data.splits and val is None):
                self.why_not = "there is no room for its activations: raise cache.memory or cache.disk"
            else:
                found: list[Stored] = [each for each in train if each is not None]
                self._sources["train"] = StoredViews(found, data.splits["train"].targets, at, seed=self.seed)
                if val is not None:
                    self._sources["val"] = StoredViews([val], data.splits["val"].targets, at, seed=self.seed)
                self.suffix = self._split(module, at)[1]
                self._last = {
                    (split, view): (at, self._key(module, split, view, at) or "")
                    for split, source in self._sources.items()
                    for view in range(len(source.views))
                }
        module.train()
        if self.options.choice is not None:
            choice = self.options.choice
            torch.set_num_threads(choice.train_threads if self.suffix is None else choice.cached_threads)
        if self.why_not and self.why_not not in self._told and at != module.stage_names[0]:
            self._told.add(self.why_not)
            self._say(module, f"cache: frozen stages are computed in every epoch: {self.why_not}")

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
            self._stored(module, data, "val", 0, wanted)
        return self._stored(module, data, "train", 0, wanted)

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

    def _key(self, module: "FineTuner", split: str, view: int, at: str) -> str | None:
        images = self.options.images.get(split)
        if images is None:
            return None
        below = module.model.stages()[: module.stage_names.index(at)]
        return key_of(
            {
                "weights": weights_hash(module.model, [n for s in below for n in (*s.parameters, *s.buffers)]),
                "boundary": at,
                "model": dict(self.options.identity),
                "images": images,
                "input": asdict(module.model.input_spec),
                "view": {"seed": self.seed, "view": view, **self.options.drawn_with} if view else "plain",
                "dtype": self.options.stored_dtype,
                "bf16": self.options.bf16,
                "device": module.device.type,
                "channels_last": self.options.choice is None or self.options.choice.frozen_channels_last,
            }
        )

    def _stored(
        self, module: "FineTuner", data: DataModule, split: str, view: int, boundaries: Sequence[str]
    ) -> Stored | None:
        """The activations of one view at the first of the boundaries; at the others they are only written.

        Returns:
            ``None`` where there is no room for them.
        """
        first = boundaries[0]
        names = {at: self._key(module, split, view, at) or f"{split} {view} {at}" for at in boundaries}
        if names[first] in self._kept:
            return self._kept[names[first]]
        on_disk = self.options.images.get(split) is not None and self.options.disk > 0
        with ExitStack() as stack:
            if on_disk:
                found = read(names[first], memory=self._free_memory())
                if found is not None:
                    return self._keep(names[first], found, module)
                try:
                    stack.enter_context(locked(place("activations", f"{names[first]}.new")))
                    found = read(names[first], memory=self._free_memory())  # another process has written it meanwhile
                except OSError as error:
                    self._say(module, f"cache: nothing is written: {error.filename}: {error.strerror}")
                    on_disk, found = False, None
                if found is not None:
                    return self._keep(names[first], found, module)
            missing = [at for at in boundaries if at == first or (on_disk and not _is_there(names[at]))]
            computed = self._compute(module, data, split, view, {at: names[at] for at in missing}, on_disk=on_disk)
        for at, stored in computed.items():
            if at == first or not _is_there(names[at]):
                self._keep(names[at], stored, module)
        return self._kept.get(names[first])

    def _keep(self, name: str, stored: Stored, module: "FineTuner") -> Stored:
        if module.device.type == "cuda" and stored.bytes * 3 < torch.cuda.mem_get_info(module.device)[0]:
            stored = stored.to(module.device)
        self._kept[name] = stored
        return stored

    def release(self) -> None:
        """Forgets what only an earlier phase read, and what can be read again."""
        used = {id(view) for source in self._sources.values() for view in source.views}
        self._kept = {name: stored for name, stored in self._kept.items() if id(stored) in used or not _is_there(name)}

    def _compute(
        self, module: "FineTuner", data: DataModule, split: str, view: int, names: Mapping[str, str], *, on_disk: bool
    ) -> dict[str, Stored]:
        """One pass over the images, or over what crossed an earlier boundary."""
        started, size = time.perf_counter(), len(data.splits[split].targets)
        limit = self.budget.left * PASS_SHARE * (1.0 if split == "train" else VALIDATION_SHARE)
        module.eval()
        order = sorted(names, key=module.stage_names.index)
        earlier = self._earlier(module, split, view, order)
        if earlier is None:
            crossings = from_images(module, data, split, view, order, self.options.choice)
        else:
            crossings = earlier[1]
        writers: dict[str, Writer] = {}
        unread: list[tuple[int, str]] = []
        seen = 0
        with torch.no_grad(), torch.autocast(module.device.type, torch.bfloat16, enabled=self.options.bf16):
            for found in crossings:
                seen += len(found.positions) + len(found.failures)
                unread += found.failures
                if found.values and not writers:
                    writers = self._writers(module, found.values, names, size, on_disk=on_disk)
                for at, writer in list(writers.items()):
                    if found.values and not self._add(module, writer, found.values[at], found.positions):
                        del writers[at]
                if time.perf_counter() - started > limit and seen < size:
                    # A part of the images, in random order: good for this run, and for no other.
                    for writer in writers.values():
                        writer.forget_disk()
                    writers = {at: writer for at, writer in writers.items() if writer.in_memory}
                    break
        done = {}
        for at, writer in writers.items():
            writer.failures = unread
            try:
                done[at] = writer.finish()
            except OSError as error:
                self._disk_full(module, writer, error)
                if writer.in_memory:
                    done[at] = writer.finish()
        seconds = time.perf_counter() - started
        if split == "train" and earlier is None:
            self.pass_seconds = seconds
            # What is predicted at the end runs the whole model, perhaps in higher precision than this pass.
            predicted = sum(len(data.splits[name].targets) for name in ("val", "test") if name in data.splits)
            self.budget.reserve = TEST_MARGIN * predicted * seconds / max(seen, 1) + CLOSING_SECONDS
        what = "plain view" if view == 0 else f"view {view}"
        origin = "images" if earlier is None else f"images, from what is stored before {earlier[0]},"
        mib = sum(stored.bytes for stored in done.values()) / (1 << 20)
        part = f"{seen:,} of {size:,}" if seen < size else f"{size:,}"
        self._say(
            module,
            f"cache: {split}, {what}: {part} {origin} through the frozen stages once, in {seconds:.1f} s "
            f"({seen / seconds:.0f} a second, {mib:,.0f} MiB before {', '.join(order)})",
        )
        return done

    def _earlier(
        self, module: "FineTuner", split: str, view: int, stops: Sequence[str]
    ) -> tuple[str, Iterator[Crossing]] | None:
        """What crossed an earlier boundary, where it is still what would cross it now; stored exactly."""
        if self.options.stored_dtype != "fp32" or (split, view) not in self._last:
            return None
        at, name = self._last[split, view]
        stored = self._kept.get(name)
        before = module.stage_names.index(at) < module.stage_names.index(stops[0])
        # The name says which weights are below: had one of them changed, it would be another.
        if stored is None or not before or self._key(module, split, view, at) != name:
            return None
        crossings = from_stored(module, stored, at, stops)
        return None if crossings is None else (at, crossings)

    def _writers(
        self,
        module: "FineTuner",
        found: Mapping[str, Sequence[Tensor]],
        names: Mapping[str, str],
        size: int,
        *,
        on_disk: bool,
    ) -> dict[str, Writer]:
        """One for every boundary there is room for, the first one first."""
        dtype, writers = self.options.stored_dtype, {}
        free = self._free_memory()
        for at in names:
            row = sum(array[:1].nbytes for values in found[at] for array in encode(values[:1], dtype))
            needed = row * size
            # The others are read when their phase comes; of a pass that is cut short nothing is written.
            in_memory = needed <= free and (not writers or self.budget.seconds is not None)
            fits = on_disk and make_room(needed, limit=int(self.options.disk * GIB), kind="activations")
            if not fits and not in_memory:
                continue
            about = {"boundary": at, "images": size, "row_bytes": row, "dtype": dtype}
            try:
                writers[at] = Writer(names[at] if fits else None, dtype, size, about, in_memory=in_memory)
            except OSError as error:
                self._say(module, f"cache: nothing is written: {error.filename}: {error.strerror}")
                if in_memory:
                    writers[at] = Writer(None, dtype, size, about, in_memory=True)
            free -= needed if in_memory else 0
        return writers

    def _free_memory(self) -> float:
        return self.options.memory * GIB - sum(stored.bytes for stored in self._kept.values())

    def _add(self, module: "FineTuner", writer: Writer, values: Sequence[Tensor], index: Tensor) -> bool:
        """Whether the writer goes on."""
        try:
            writer.add(values, index)
        except OSError as error:
            self._disk_full(module, writer, error)
            return writer.in_memory
        return True

    def _disk_full(self, module: "FineTuner", writer: Writer, error: OSError) -> None:
        writer.forget_disk()
        where = place("activations", "x").parent
        rest = "they are kept in memory" if writer.in_memory else "the run goes on without them"
        self._say(module, f"cache: activations cannot be written to {where}: {error.strerror}; {rest}")

    def _say(self, module: "FineTuner", text: str) -> None:
        if module.global_rank == 0:
            print(text, flush=True)


def on_activations(plugin: Plugin, values: Any, targets: Tensor, generator: torch.Generator) -> tuple[Any, Tensor]:
    """A plugin's ``train_batch`` on what crossed a boundary: the same draw for each of several tensors."""
    if isinstance(values, Tensor):
        return plugin.train_batch(values, targets, generator)
    state, changed, new_targets = generator.get_state(), [], targets
    for each in values:
        generator.set_state(state)
        value, new_targets = plugin.train_batch(each, targets, generator)
        changed.append(value)
    return tuple(changed), new_targets


def _is_there(name: str) -> bool:
    return (place("activations", name) / "about.json").is_file()
