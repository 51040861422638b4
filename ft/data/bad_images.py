"""What happens to an image that cannot be read, wherever it is met: refused, or left out and listed."""

from collections.abc import Iterable, Mapping, Sequence

from ft.data.check import unreadable
from ft.data.source import Bad


class BadImages:
    """Keeps count of images that could not be read.

    Args:
        on_bad: ``error``, ``skip`` or ``quarantine``.
        names: The names of each split's images.
        known: Those found before training.
        files: The files of each split's images, of splits that have some.

    Attributes:
        found: Name and reason.
        paths: Name and file of those that have one.
    """

    def __init__(
        self,
        on_bad: str,
        names: Mapping[str, Sequence[str]],
        known: Iterable[Bad],
        files: Mapping[str, Sequence[str]],
    ) -> None:
        self.on_bad = on_bad
        self.names = names
        self.files = files
        self.found: dict[str, str] = {}
        self.paths: dict[str, str] = {}
        for bad in known:
            self._keep(bad)

    def record(self, split: str, failures: Iterable[tuple[int, str]]) -> None:
        """Takes note of images that the workers could not decode.

        Args:
            split: Where they are from.
            failures: Position and reason of each.

        Raises:
            UserError: ``on_bad=error``.
        """
        for index, why in failures:
            name = self.names[split][index]
            if self.on_bad == "error":
                raise unreadable(name, why)
            self._keep(Bad(name, why, self.files[split][index] if split in self.files else None))

    def stand_in(self, kind: str, split: str) -> None:
        """From now on images of Lightning's loop ``kind`` are those of another split."""
        self.names = {**self.names, kind: self.names[split]}
        self.files = {name: files for name, files in self.files.items() if name != kind}
        if split in self.files:
            self.files = {**self.files, kind: self.files[split]}

    def _keep(self, bad: Bad) -> None:
        self.found[bad.name] = bad.why
        if bad.path is not None:
            self.paths[bad.name] = bad.path
