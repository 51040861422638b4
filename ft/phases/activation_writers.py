"""Where activations are written as they are computed: memory, disk or both, as far as there is room."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ft.cache.codec import encode
from ft.cache.folder import ABOUT, make_room, place
from ft.cache.writer import Writer
from ft.phases.cache_options import CacheOptions

if TYPE_CHECKING:
    from ft.module import FineTuner

GIB = 1 << 30


def make_writers(
    module: "FineTuner",
    found: Mapping[str, Sequence[Tensor]],
    names: Mapping[str, str],
    size: int,
    options: CacheOptions,
    *,
    free: float,
    on_disk: bool,
    in_one_go: bool,
) -> dict[str, Writer]:
    """One for every boundary there is room for, the first one first.

    Args:
        module: Says whether this process speaks.
        found: What crosses each boundary, of a first batch.
        names: Of the entries, by boundary.
        size: Number of images.
        options: What may be stored.
        free: Bytes of memory.
        on_disk: Whether files may be written.
        in_one_go: Whether every boundary is kept in memory: of a pass that is cut short nothing is written.
    """
    dtype, writers = options.stored_dtype, {}
    for at in names:
        row = sum(array[:1].nbytes for values in found[at] for array in encode(values[:1], dtype))
        needed = row * size
        # The others are read when their phase comes.
        in_memory = needed <= free and (not writers or in_one_go)
        fits = on_disk and make_room(needed, limit=int(options.disk * GIB), kind="activations")
        if not fits and not in_memory:
            continue
        about = {"boundary": at, "images": size, "row_bytes": row, "dtype": dtype}
        try:
            writers[at] = Writer(names[at] if fits else None, dtype, size, about, in_memory=in_memory)
        except OSError as error:
            say(module, f"cache: nothing is written: {error.filename}: {error.strerror}")
            if in_memory:
                writers[at] = Writer(None, dtype, size, about, in_memory=True)
        free -= needed if in_memory else 0
    return writers


def add_rows(module: "FineTuner", writer: Writer, values: Sequence[Tensor], index: Tensor) -> bool:
    """Whether the writer goes on."""
    try:
        writer.add(values, index)
    except OSError as error:
        disk_full(module, writer, error)
        return writer.in_memory
    return True


def disk_full(module: "FineTuner", writer: Writer, error: OSError) -> None:
    """Goes on in memory, where the rows are there too, and says so."""
    writer.forget_disk()
    where = place("activations", "x").parent
    rest = "they are kept in memory" if writer.in_memory else "the run goes on without them"
    say(module, f"cache: activations cannot be written to {where}: {error.strerror}; {rest}")


def say(module: "FineTuner", text: str) -> None:
    """One line, from the first process."""
    if module.global_rank == 0:
        print(text, flush=True)


def is_there(name: str) -> bool:
    """Whether an entry is on disk."""
    return (place("activations", name) / ABOUT).is_file()
