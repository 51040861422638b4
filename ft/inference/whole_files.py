"""Files that come to be all together at the end, or not at all."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ft.errors import UserError


@contextmanager
def whole_files(places: Sequence[Path]) -> Iterator[list[Path]]:
    """Gives a path beside each place to write to, and moves what was written there when the block has ended.

    After an exception, Ctrl-C too, nothing has changed. A place whose path was not written is empty afterwards: what
    an earlier run has left there would be taken for this one's.

    Raises:
        UserError: One of the places cannot be written to.
    """
    # A short name: the longest that is allowed may be taken by the file itself.
    fresh = [place.with_name(f".{secrets.token_hex(4)}.new") for place in places]
    made: list[Path] = []
    try:
        for place, path in zip(places, fresh, strict=True):
            missing = [folder for folder in place.parents if not folder.exists()]
            made = [*missing, *made]
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                path.unlink()
            except OSError as error:
                raise UserError(f"{place} cannot be written; {place.parent}: {error.strerror}.") from None
        yield fresh
        for place, path in zip(places, fresh, strict=True):
            if path.exists():
                path.replace(place)
            else:
                place.unlink(missing_ok=True)
    except BaseException:
        for path in filter(Path.exists, fresh):
            path.unlink()
        for folder in made:
            with suppress(OSError):  # Somebody else has put something there.
                folder.rmdir()
        raise
