"""Which image belongs to which split, when the data does not say: seeded, stratified, reproducible."""

from collections.abc import Collection

import numpy as np

from ft.data.source import Source, Split
from ft.errors import UserError, require


def complete(source: Source, *, val_fraction: float, test_fraction: float, seed: int) -> Source:
    """Takes the missing splits from ``train``: ``test`` first, so that it is the same for every ``val_fraction``.

    Args:
        source: A data set with at least ``train``.
        val_fraction: Share of the training images, in ``(0, 1)``, that becomes ``val`` where it is missing.
        test_fraction: The same for ``test``, in ``[0, 1)``; 0 leaves it out.
        seed: Of the split, and of nothing else.

    Raises:
        UserError: A fraction is out of range, or a class is too small to be split.
    """
    splits = dict(source.splits)
    require(0 <= test_fraction < 1, "data.test_fraction", "must be in [0, 1)", test_fraction)
    if "val" not in splits:
        require(0 < val_fraction < 1, "data.val_fraction", "must be in (0, 1) when there is no val split", val_fraction)
        if "test" not in splits:
            require(
                val_fraction + test_fraction < 1,
                "data.val_fraction + data.test_fraction",
                "must be below 1",
                val_fraction + test_fraction,
            )
    total = len(splits["train"])
    for name, fraction in (("test", test_fraction), ("val", val_fraction)):
        if name not in splits and fraction > 0:
            # Shares are of the images there were at first, whichever split is taken before.
            share = fraction * total / len(splits["train"])
            splits["train"], splits[name] = split_off(splits["train"], share, seed)
    return source.with_splits(splits)


def split_off(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Divides a split into the rest and a stratified ``fraction`` of it, at least one image of each class.

    Raises:
        UserError: A class has only one image.
    """
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(split), dtype=bool)
    for label, members in _strata(split.labels):
        if len(members) < 2:
            raise UserError(
                f"class {label!r} has only one image, so it cannot be in two splits. "
                "Add images, or make the splits yourself (train/, val/, test/ folders, or data.split_column)."
            )
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        taken[generator.permutation(members)[:count]] = True
    return split.take(np.flatnonzero(~taken)), split.take(np.flatnonzero(taken))


def limit(split: Split, count: int, seed: int) -> Split:
    """A seeded, stratified subset of ``count`` images."""
    require(count >= 1, "data.limit", "must be at least 1", count)
    if count >= len(split):
        return split
    generator = np.random.default_rng(seed)
    # Every class in random order, then interleaved by relative rank: any prefix is stratified.
    rank = np.empty(len(split))
    for _, members in _strata(split.labels):
        rank[generator.permutation(members)] = (np.arange(len(members)) + generator.random()) / len(members)
    return split.take(np.sort(np.argsort(rank, kind="stable")[:count]))


def only_listed(split: Split, file: str, key: str, *, left_out: Collection[str] = ()) -> Split:
    """The images whose names stand in a text file, one a line.

    Args:
        split: Has them.
        file: The list.
        key: Of the config, for messages.
        left_out: Names of images that cannot be read: they may be in the list.

    Raises:
        UserError: The file is missing or empty, or names an image that the split lacks.
    """
    try:
        with open(file, encoding="utf-8") as lines:
            wanted = [line.strip() for line in lines if line.strip()]
    except OSError as error:
        raise UserError(f"{key}={file} cannot be read: {error.strerror}.") from None
    position = {name: at for at, name in enumerate(split.names)}
    wanted = [name for name in wanted if name not in left_out]
    missing = [name for name in wanted if name not in position]
    if missing or not wanted:
        example = f", for example {missing[0]!r}" if missing else ""
        raise UserError(
            f"{key}={file} names {len(missing)} of {len(wanted)} images that the split lacks{example}. "
            f"Each line must be a name such as {split.names[0]!r}."
        )
    return split.take(np.array([position[name] for name in wanted]))


def _strata(labels: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Positions by class name; all in one stratum where labels are numbers."""
    if labels.ndim > 1 or labels.dtype.kind == "f":
        return [("all", np.arange(len(labels)))]
    return [(label, np.flatnonzero(labels == label)) for label in np.unique(labels).tolist()]
