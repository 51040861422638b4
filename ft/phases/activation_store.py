"""Finds or computes what crosses a boundary: one pass over the images gives every boundary that is wanted."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import torch

from ft.cache.activations import Stored, key_of, read, weights_hash
from ft.cache.folder import locked, place
from ft.cache.writer import Writer
from ft.data.module import DataModule
from ft.phases.activation_writers import GIB, add_rows, disk_full, is_there, make_writers, say
from ft.phases.budget import PASS_SHARE, VALIDATION_SHARE, Budget
from ft.phases.cache_options import CacheOptions
from ft.phases.frozen_pass import Crossing, from_images, from_stored

if TYPE_CHECKING:
    from ft.module import FineTuner

# Of the end of a run with a budget: the test, by the speed of a pass; checkpoints and summary.
TEST_MARGIN, CLOSING_SECONDS = 2.5, 1.5


class ActivationStore:
    """Activations by split, view and boundary: found on disk, in memory, or computed.

    Args:
        options: What may be stored.
        seed: Of the views.
        budget: Cuts a pass short that would take too long.

    Attributes:
        pass_seconds: Of the last whole pass over the training images.
    """

    def __init__(self, options: CacheOptions, *, seed: int, budget: Budget) -> None:
        self.options = options
        self.seed = seed
        self.budget = budget
        self.pass_seconds = 0.0
        self._kept: dict[str, Stored] = {}  # what is in no file, and what the current phase reads
        # Split and view -> boundary and name, of the last phase.
        self._last: dict[tuple[str, int], tuple[str, str]] = {}

    def key(self, module: "FineTuner", split: str, view: int, at: str) -> str | None:
        """The name of an entry; ``None`` for images that cannot be told apart."""
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

    def get(
        self, module: "FineTuner", data: DataModule, split: str, view: int, boundaries: Sequence[str]
    ) -> Stored | None:
        """The activations of one view at the first of the boundaries; at the others they are only written.

        Returns:
            ``None`` where there is no room for them.
        """
        first = boundaries[0]
        names = {at: self.key(module, split, view, at) or f"{split} {view} {at}" for at in boundaries}
        if names[first] in self._kept:
            return self._kept[names[first]]
        on_disk = self.options.images.get(split) is not None and self.options.disk > 0
        with ExitStack() as stack:
            if on_disk:
                found = read(names[first], memory=self._free_memory(), tell=partial(say, module))
                if found is not None:
                    return self._keep(names[first], found, module)
                try:
                    stack.enter_context(locked(place("activations", f"{names[first]}.new")))
                    found = read(names[first], memory=self._free_memory())  # another process has written it meanwhile
                except OSError as error:
                    say(module, f"cache: nothing is written: {error.filename}: {error.strerror}")
                    on_disk, found = False, None
                if found is not None:
                    return self._keep(names[first], found, module)
            missing = [at for at in boundaries if at == first or (on_disk and not is_there(names[at]))]
            computed = self._compute(module, data, split, view, {at: names[at] for at in missing}, on_disk=on_disk)
        for at, stored in computed.items():
            if at == first or not is_there(names[at]):
                self._keep(names[at], stored, module)
        return self._kept.get(names[first])

    def _keep(self, name: str, stored: Stored, module: "FineTuner") -> Stored:
        if module.device.type == "cuda" and stored.bytes * 3 < torch.cuda.mem_get_info(module.device)[0]:
            stored = stored.to(module.device)
        self._kept[name] = stored
        return stored

    def release(self, used: Iterable[Stored]) -> None:
        """Forgets what only an earlier phase read, and what can be read again."""
        ids = {id(stored) for stored in used}
        self._kept = {name: stored for name, stored in self._kept.items() if id(stored) in ids or not is_there(name)}

    def remember(self, module: "FineTuner", at: str, views: Mapping[str, int]) -> None:
        """What the current phase reads: a later boundary may start from it.

        Args:
            module: Its weights are part of the names.
            at: The boundary.
            views: How many, by split.
        """
        self._last = {
            (split, view): (at, self.key(module, split, view, at) or "")
            for split, count in views.items()
            for view in range(count)
        }

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
                    writers = make_writers(
                        module, found.values, names, size, self.options, free=self._free_memory(),
                        on_disk=on_disk, in_one_go=self.budget.seconds is not None,
                    )  # fmt: skip
                for at, writer in list(writers.items()):
                    if found.values and not add_rows(module, writer, found.values[at], found.positions):
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
                disk_full(module, writer, error)
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
        say(
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
        if stored is None or not before or self.key(module, split, view, at) != name:
            return None
        crossings = from_stored(module, stored, at, stops)
        return None if crossings is None else (at, crossings)

    def _free_memory(self) -> float:
        return self.options.memory * GIB - sum(stored.bytes for stored in self._kept.values())
