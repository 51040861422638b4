"""A process with everything imported that starts sweeps, each in a child that it kills at an exact moment.

A line of JSON in, an exit code out. The moment is counted in changes of files: one opened for writing, moved, linked or
removed, a folder made. Every way of leaving something half-done lies between two of them, and a kill repeats from seed
to seed, however busy the machine is.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

from tests.file_changes import before_changes
from tests.killable import leave_after


def count_changes(below: str, *, kill_at: int | None) -> list[int]:
    """Counts changes of files below a folder from now on; before one of them, the process is gone.

    Args:
        below: The folder.
        kill_at: Which, from 1; ``None`` for none.

    Returns:
        A list of one number, which grows.
    """
    changes = [0]

    def count(event: str, path: str) -> None:
        del event, path
        changes[0] += 1
        if changes[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    before_changes(below, count)
    return changes


def sweep(words: list[str], folder: Path, kill_at: int | None) -> None:
    """In a child: the sweep, and how many changes it has made."""
    from ft.command.verb import run_verb
    from ft.train import train

    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    changes = count_changes(str(folder / "runs"), kill_at=kill_at)
    sys.argv = ["ft.train", "-m", *words, f"runs_dir='{folder}/runs'"]
    try:
        run_verb(train, "train")
    finally:
        (folder / "changes.txt").write_text(str(changes[0]), encoding="utf-8")


def main() -> None:
    # What a sweep needs: each child would import it anew.
    for name in ("optuna", "ft.jobs.dispatch", "ft.jobs.soup", "ft.model.timm_model", "ft.data.synthetic"):
        importlib.import_module(name)

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            leave_after(sweep, asked["words"], Path(asked["folder"]), asked["kill_at"])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
