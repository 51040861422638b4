"""``python -m ft.cache list|clean``: what is kept between runs, and how to be rid of it."""

import sys
from argparse import ArgumentParser
from typing import NoReturn

from ft.cache.folder import KINDS, Entry, age, cache_dir, entries, in_words, remove
from ft.errors import UserError, one_of, require

DESCRIPTION = "Shows or deletes what is kept between runs. Whatever is deleted is computed again when it is needed."


class Parser(ArgumentParser):
    """Tells mistakes as every verb does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. {self.format_usage().strip()}")


def chosen(words: list[str]) -> tuple[str, list[Entry]]:
    """The command, and the entries it is about."""
    parser = Parser("python -m ft.cache", description=DESCRIPTION)
    parser.add_argument("command", help="list or clean")
    parser.add_argument("kind", nargs="?", help=f"{', '.join(KINDS)}; all of them by default")
    parser.add_argument("--older-than", type=float, default=0.0, metavar="DAYS", help="since they were last used")
    given = parser.parse_args(words)
    one_of(given.command, ("list", "clean"), "command")
    one_of(given.kind or KINDS[0], KINDS, "kind")
    require(given.older_than >= 0, "--older-than", "must be at least 0 days", given.older_than)
    return given.command, [entry for entry in entries(given.kind) if age(entry) >= given.older_than]


def show(found: list[Entry]) -> None:
    """One line an entry, the least recently used first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("kind", "key", "size", "days unused", "about")
    for entry in found:
        about = ", ".join(f"{name} {value}" for name, value in entry.about.items() if isinstance(value, str | int))
        table.add_row(entry.kind, entry.key[:12], in_words(entry.bytes), f"{age(entry):.1f}", escape(about or "?"))
    out = Console()
    (out if out.is_terminal else Console(width=160)).print(table)
    print(f"{len(found)} entries in {cache_dir()}, {in_words(sum(entry.bytes for entry in found))}.")


def clean(found: list[Entry]) -> None:
    """Deletes them, but for those that are in use."""
    gone = [entry for entry in found if remove(entry)]
    print(f"{len(gone)} of {len(found)} entries deleted from {cache_dir()}, {in_words(sum(e.bytes for e in gone))}.")


if __name__ == "__main__":
    try:
        command, found = chosen(sys.argv[1:])
        show(found) if command == "list" else clean(found)
    except UserError as error:
        print(f"ft: {error}", file=sys.stderr)
        raise SystemExit(2) from None
