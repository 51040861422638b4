"""A clean fork: what is copied, what is the fork's own, and where it is put.

template                      fork
ft conf plugins tests ... ──> the same files
pyproject.toml            ──> its name, version 0.1.0; [tool.ft.template] says what it came from
(files/*.in)              ──> README, CHANGELOG, plugin ``example`` with its YAML and its test
"""

import re
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Template

import ft
from ft.errors import UserError
from ft.fork.history import begin_history
from ft.fork.metadata import own_metadata
from ft.fork.tree_hash import tree_hash

ROOT = Path(ft.__file__).parent.parent
FILES = Path(__file__).parent / "files"
COPIED = (
    "tests",
    "docs/extending.md",
    ".github",
    ".ci",
    "constraints.txt",
    "LICENSE",
    "CONTRIBUTING.md",
    ".gitignore",
    "pyproject.toml",
)
# The template's measurements are not the fork's.
LEFT_OUT = ("__pycache__", "*.pyc", ".*_cache", "benchmarks")
WRITTEN = {
    "README.md": "README.md.in",
    "CHANGELOG.md": "CHANGELOG.md.in",
    "plugins/example.py": "example.py.in",
    "conf/plugins/example.yaml": "example.yaml.in",
    "tests/plugins/test_example.py": "test_example.py.in",
}
# PEP 508.
NAME = re.compile(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9]", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Fork:
    """What was made.

    Attributes:
        name: Of the distribution.
        path: Its root.
        num_files: Without the history.
        template: Name of what it came from.
        version: Of ``ft``.
        history: One sentence: whether it has one.
    """

    name: str
    path: Path
    num_files: int
    template: str
    version: str
    history: str


def make_fork(name: str, target: Path, *, source: Path = ROOT) -> Fork:
    """Builds the fork beside its place, then moves it there: nothing half-made is left behind.

    Args:
        name: Of the distribution.
        target: Its root: not there yet, or empty.
        source: The tree that is forked.

    Raises:
        UserError: The name or the place will not do, or ``source`` is not a whole source tree.
    """
    target, source = target.expanduser().resolve(), source.resolve()
    copied = _copied(source)
    project = (source / "pyproject.toml").read_text(encoding="utf-8")
    template = tomllib.loads(project)["project"]["name"]
    _check_name(name, template)
    words = {"name": name, "template": template, "version": ft.__version__}
    try:
        _check_target(target, source)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            tree = Path(folder) / "tree"
            for part in copied:
                _copy(source / part, tree / part)
            _write_own(tree, words)
            (tree / "pyproject.toml").write_text(
                own_metadata(project, **words, sha256=tree_hash(tree / "ft")), encoding="utf-8"
            )
            num_files = sum(path.is_file() for path in tree.rglob("*"))
            history = begin_history(tree, f"{name}, from {template} {ft.__version__}")
            _move(tree, target)
    except OSError as error:
        raise UserError(f"TARGET={target} cannot be made: {error}.") from None
    return Fork(name, target, num_files, template, ft.__version__, history)


def _copied(source: Path) -> list[str]:
    """The packages that pyproject.toml lists, and what stands around them."""
    missing = [part for part in COPIED if not (source / part).exists()]
    if missing:
        raise UserError(
            f"a fork is a copy of the source tree, and ft is imported from {source}, which has no {missing[0]}.\n"
            "Clone the template and run python -m ft.new from its root."
        )
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    return [*dict.fromkeys(package.partition(".")[0] for package in packages), *COPIED]


def _check_name(name: str, template: str) -> None:
    if not NAME.fullmatch(name):
        raise UserError(
            f"NAME must be letters, digits, -, _ and ., with a letter or digit at both ends (PEP 508), got {name!r}."
        )
    if _normal(name) == _normal(template):
        raise UserError(f"NAME={name} is the name of what is forked; the fork needs another.")


def _normal(name: str) -> str:
    """As pip compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_target(target: Path, source: Path) -> None:
    if target.is_relative_to(source):
        raise UserError(f"TARGET={target} must not be inside the tree that is forked, {source}.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"TARGET must be a folder that is not there yet, or is empty, got {target}.")
    if not target.parent.is_dir():
        raise UserError(f"TARGET={target}: there is no folder {target.parent}; make it first.")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    else:
        shutil.copy2(source, target)


def _write_own(tree: Path, words: dict[str, str]) -> None:
    for path, file in WRITTEN.items():
        # A fork's fork has an example, perhaps changed.
        if not (tree / path).exists():
            text = (FILES / file).read_text(encoding="utf-8")
            (tree / path).write_text(Template(text).substitute(words), encoding="utf-8")


def _move(tree: Path, target: Path) -> None:
    if target.exists():
        # Not replaced: the shell may stand in it.
        for path in list(tree.iterdir()):
            shutil.move(path, target / path.name)
    else:
        tree.rename(target)
