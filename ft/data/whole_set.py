"""One step, one pass: for optimizers whose closure walks the whole training set."""

from collections.abc import Iterable, Iterator

from ft.data.batch import Batch


class WholeSet:
    """The training set as one batch that is walked in smaller ones, always in the same order."""

    def __init__(self, loader: Iterable[Batch], size: int) -> None:
        self.loader = loader
        self.size = size

    def __len__(self) -> int:
        """Number of images."""
        return self.size

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


class WholeSetLoader:
    """A loader of one item an epoch: the whole set."""

    def __init__(self, loader: Iterable[Batch], size: int) -> None:
        self.whole_set = WholeSet(loader, size)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[WholeSet]:
        yield self.whole_set
