"""``python -m ft.new NAME TARGET``: a clean fork of the template, with a history of its own."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import NoReturn

from ft.errors import UserError
from ft.fork.make_fork import make_fork

DESCRIPTION = """\
Makes a fork: ft, conf, plugins and their tests, under a name, version, README and history of its own.

  python -m ft.new bird-watch ../bird-watch
"""


class Parser(ArgumentParser):
    """Tells mistakes as every verb does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}.\nUsage: python -m ft.new NAME TARGET")


def new(words: list[str]) -> None:
    """Makes the fork and says what to do next."""
    parser = Parser("python -m ft.new", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("NAME", help="of the distribution: letters, digits, -, _ and .")
    parser.add_argument("TARGET", help="folder that is not there yet, or is empty")
    given = parser.parse_args(words)
    fork = make_fork(given.NAME, Path(given.TARGET))
    print(f"{fork.name} is in {fork.path}: {fork.num_files} files, from {fork.template} {fork.version}.")
    print(fork.history)
    print("\nNext, in an environment of its own:\n")
    print(f"  cd '{fork.path}'")
    print("  pip install -c constraints.txt -e '.[dev]' && pytest")
    print("  python -m ft.train 'plugins=[example]'")


if __name__ == "__main__":
    try:
        new(sys.argv[1:])
    except UserError as error:
        print(f"ft: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
