"""A git history of one commit; a fork without one is a fork too."""

import os
import shutil
import subprocess
from pathlib import Path

# Where the user has not said who commits.
NOBODY = {"user.name": "ft.new", "user.email": "ft.new@localhost"}
# Set inside a git hook: they would send the commit into another repository.
OUTER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")


def begin_history(tree: Path, message: str) -> str:
    """``git init`` and one commit of everything.

    Args:
        tree: The fork's root.
        message: Of the commit.

    Returns:
        What to tell the user: that there is a history, or why not and what to do.
    """
    if shutil.which("git") is None:
        return "It has no history: git is not installed. Later: git init && git add . && git commit"
    try:
        _git(tree, "init", "--quiet")
        # ci.yml and this name belong together, whatever the user's git calls a first branch.
        _git(tree, "symbolic-ref", "HEAD", "refs/heads/main")
        _git(tree, "add", ".")
        _git(tree, *_author(tree), "commit", "--quiet", "--message", message)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(tree / ".git", ignore_errors=True)
        reason = (error.stderr.strip() or f"exit code {error.returncode}").splitlines()[-1]
        return f"It has no history: git refused ({reason}). Later: git init && git add . && git commit"
    return "Its history begins with one commit."


def _author(tree: Path) -> list[str]:
    missing = [key for key in NOBODY if not _git(tree, "config", "--default", "", "--get", key).strip()]
    return [word for key in missing for word in ("-c", f"{key}={NOBODY[key]}")]


def _git(tree: Path, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in OUTER}
    command = ["git", *words]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout
