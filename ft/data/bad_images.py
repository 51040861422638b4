"""What happens to an image that cannot be read, wherever it is met: refused, or left out and listed."""

from collections.abc import Iterable, Mapping, Sequence

from ft.data.check import unreadable


class BadImages:
    """Keeps count of images that could not be read.

    Args:
        on_bad: ``error`` or ``skip``.
        names: The names of each split's images.
        known: Those found before training: name and reason.
    """

    def __init__(self, on_bad: str, names: Mapping[str, Sequence[str]], known: Iterable[tuple[str, str]]) -> None:
        self.on_bad = on_bad
        self.names = names
        self.found: dict[str, str] = dict(known)

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
            self.found[name] = why
