"""``python -m ft.new``: a fork that is whole, has nothing of the template's past, and passes its tests."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ft
from ft.errors import UserError
from ft.fork.make_fork import make_fork
from ft.fork.metadata import own_metadata
from ft.fork.tree_hash import tree_hash

ROOT = Path(__file__).parent.parent
TEMPLATE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
# Not fixed: these tests are in every fork, and a fork's fork needs another name.
NAME = f"{TEMPLATE}-child"
NO_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed: a fork then has no history")


def python(tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True
    )


def new(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python(ROOT, "-m", "ft.new", *words, **environment)


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, by the command."""
    target = tmp_path_factory.mktemp("forks") / "bird watch"
    result = new(NAME, str(target))
    assert result.returncode == 0, result.stderr
    assert f"{NAME} is in {target}" in result.stdout
    return target


def test_it_has_a_name_a_readme_and_a_record_of_its_own(fork):
    text = (fork / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    assert (project["project"]["name"], project["project"]["version"]) == (NAME, "0.1.0")
    assert (
        f"{NAME}[tensorboard,report,doctor,export,serve,parquet,sweep,joblib,slurm]"
        in project["project"]["optional-dependencies"]["dev"]
    )
    record = {"name": TEMPLATE, "version": ft.__version__, "sha256": tree_hash(fork / "ft")}
    assert project["tool"]["ft"]["template"] == record
    assert f'"{TEMPLATE}[' not in text
    assert (fork / "README.md").read_text(encoding="utf-8").startswith(f"# {NAME}\n")
    assert f"fork of {TEMPLATE}, ft {ft.__version__}" in (fork / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "$" not in (fork / "README.md").read_text(encoding="utf-8").replace("$name", "")


def test_it_has_what_it_needs_and_nothing_of_the_past(fork):
    found = {path.name for path in fork.iterdir()} - {".git"}
    assert found >= {"ft", "conf", "plugins", "tests", "docs", ".github", ".ci", "constraints.txt", "LICENSE"}
    assert not found & {"runs", "data", "build", "dist", "ft_template.egg-info", ".pytest_cache", ".ruff_cache"}
    assert not list(fork.rglob("*.pyc"))
    assert [path.name for path in fork.parent.iterdir()] == [fork.name], "what it was built in is gone"
    for name in ("plugins/example.py", "conf/plugins/example.yaml", "tests/plugins/test_example.py"):
        assert (fork / name).is_file()


@NO_GIT
def test_its_history_is_one_commit_of_everything(fork):
    log = subprocess.run(["git", "log", "--format=%s|%D"], cwd=fork, capture_output=True, text=True, check=True).stdout
    status = subprocess.run(["git", "status", "--porcelain", "--ignored"], cwd=fork, capture_output=True, text=True)
    tracked = subprocess.run(["git", "ls-files"], cwd=fork, capture_output=True, text=True).stdout.splitlines()
    assert log == f"{NAME}, from {TEMPLATE} {ft.__version__}|HEAD -> main\n"
    assert {"ft/train.py", "conf/train.yaml", "plugins/example.py", ".ci/run"} <= set(tracked)
    assert not [line for line in status.stdout.splitlines() if "__pycache__" not in line]


@NO_GIT
@pytest.mark.parametrize("known", ["[user]\nname = Ada\nemail = ada@example.org\n", ""])
def test_its_author_is_the_users_or_a_neutral_one(tmp_path, monkeypatch, known):
    (tmp_path / "gitconfig").write_text(known)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # As in a git hook; the commit must not go there.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    fork = make_fork(NAME, tmp_path / "own")
    monkeypatch.delenv("GIT_DIR")
    log = subprocess.run(["git", "log", "--format=%an %ae"], cwd=fork.path, capture_output=True, text=True).stdout
    assert log.strip() == ("Ada ada@example.org" if known else "ft.new ft.new@localhost")
    assert fork.history == "Its history begins with one commit."


def test_without_git_it_has_no_history_and_says_so(tmp_path):
    result = new(NAME, str(tmp_path / "own"), PATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "It has no history: git is not installed. Later: git init" in result.stdout
    assert not (tmp_path / "own" / ".git").exists()
    assert (tmp_path / "own" / "pyproject.toml").is_file()


@NO_GIT
def test_where_git_refuses_it_has_no_history_and_says_why(tmp_path, monkeypatch):
    (tmp_path / "gitconfig").write_text("[commit]\ngpgsign = true\n[gpg]\nprogram = /nowhere/gpg\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    fork = make_fork(NAME, tmp_path / "own")
    assert "It has no history: git refused (fatal: failed to write commit object)" in fork.history
    assert not (fork.path / ".git").exists()


def test_it_runs_and_its_example_is_found(fork):
    where = "import ft; from importlib.util import find_spec; print(ft.__file__, find_spec('plugins.example').origin)"
    assert python(fork, "-c", where).stdout.strip() == f"{fork}/ft/__init__.py {fork}/plugins/example.py"
    shown = python(fork, "-m", "ft.train", "--cfg", "job", "plugins=[example]")
    assert shown.returncode == 0, shown.stderr
    assert "_target_: plugins.example.Example" in shown.stdout


@pytest.mark.full
def test_the_tests_of_its_example_and_its_readme_pass(fork):
    files = ("plugins/test_example.py", "test_readme.py", "test_config.py")
    chosen = ("-k", "example or test_readme")
    result = python(
        fork, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *(f"tests/{file}" for file in files), *chosen
    )
    assert result.returncode == 0, result.stdout
    assert re.search(r"\d\d passed", result.stdout)


def test_a_fork_is_forked_with_its_example_and_one_record(fork, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(fork, changed, ignore=shutil.ignore_patterns(".git"))
    (changed / "plugins" / "example.py").write_text("# ours\n")
    second = make_fork(f"{NAME}-child", tmp_path / "second", source=changed)
    record = tomllib.loads((second.path / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ft"]["template"]
    assert (second.template, record["name"], record["sha256"]) == (NAME, NAME, tree_hash(fork / "ft"))
    assert (second.path / "plugins" / "example.py").read_text() == "# ours\n"


MISTAKES = {
    "nothing": ((), "the following arguments are required: NAME, TARGET"),
    "one too many": ((NAME, "{tmp}/a", "b"), "unrecognized arguments: b"),
    "name": (("my fork", "{tmp}/a"), "NAME must be letters, digits, -, _ and ."),
    "end of the name": (("fork-", "{tmp}/a"), "with a letter or digit at both ends (PEP 508), got 'fork-'"),
    "the template's name": ((TEMPLATE.replace("-", "_"), "{tmp}/a"), "the fork needs another"),
    "full": ((NAME, "{tmp}"), "TARGET must be a folder that is not there yet, or is empty"),
    "file": ((NAME, "{tmp}/file"), "TARGET must be a folder that is not there yet, or is empty"),
    "inside": ((NAME, f"{ROOT}/ft/fork/a"), "must not be inside the tree that is forked"),
    "parent": ((NAME, "{tmp}/a/b"), "there is no folder {tmp}/a; make it first"),
}


@pytest.mark.parametrize(("words", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_to_three_lines_and_leaves_nothing(tmp_path, words, told):
    (tmp_path / "file").write_text("")
    result = new(*(word.format(tmp=tmp_path) for word in words))
    assert result.returncode == 2
    assert result.stderr.startswith("ft: ")
    assert 1 <= len(result.stderr.strip().splitlines()) <= 3
    assert told.format(tmp=tmp_path) in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_installed_without_its_source_is_not_forked(tmp_path):
    shutil.copytree(ROOT / "ft", tmp_path / "site-packages" / "ft")
    with pytest.raises(UserError, match=r"has no tests.\nClone the template and run python -m ft.new from its root"):
        make_fork(NAME, tmp_path / "fork", source=tmp_path / "site-packages")


def test_a_fork_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ft.fork.make_fork._write_own", refuse)
    with pytest.raises(UserError, match=r"cannot be made: .*No space left on device"):
        make_fork(NAME, tmp_path / "fork")
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_not_replaced(tmp_path):
    target = tmp_path / "fork"
    target.mkdir()
    inode = target.stat().st_ino
    make_fork(NAME, target)
    assert target.stat().st_ino == inode
    assert (target / "ft" / "train.py").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["fork"]


def test_a_project_file_that_cannot_be_rewritten_is_refused():
    with pytest.raises(UserError, match=r'must have version = "..." on a line of its own'):
        own_metadata(
            '[project]\nname = "a"\ndynamic = ["version"]\ndescription = "x"\n',
            name="b",
            template="a",
            version="1",
            sha256="0",
        )


def test_help_is_quick_and_free_of_torch():
    result = python(ROOT, "-X", "importtime", "-m", "ft.new", "--help")
    assert result.returncode == 0
    assert "NAME" in result.stdout
    assert not [
        line for line in result.stderr.splitlines() if line.split("|")[-1].strip() in ("torch", "hydra", "lightning")
    ]


@pytest.mark.full
def test_its_whole_suite_and_its_lint_pass(fork):
    suite = ["pytest", "-q", "-p", "no:cacheprovider"]
    for words in (["ruff", "check"], ["ruff", "format", "--check"], ["basedpyright"], suite):
        result = python(fork, "-m", *words)
        assert result.returncode == 0, result.stdout
