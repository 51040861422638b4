"""``autoresume=true``: the same command again goes on with its own unfinished run, instead of beginning a new one.

    runs/.asked/KEY       the run that was begun last with a config of this hash; locked for as long as it lives
    runs/.asked/KEY_JOB   the same of one SLURM job, which SLURM may start again

Every run leaves its name there, so that the word can be added to the command afterwards. What does not change the
result (where runs are, loggers, the report) is not part of the hash.
"""

import fcntl
import json
import os
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ft.build.stored_config import read_config
from ft.build.trainer import process_rank
from ft.checkpoint.requeue import is_requeued, slurm_job
from ft.errors import Answer, UserError
from ft.job_folder import key_of
from ft.run_folder import RunFolder, write_whole

FOLDER = ".asked"
OF_A_RUN = re.compile(r"[\w-]+")


class Claim:
    """The names under which a run can be found again.

    Args:
        runs_dir: Of the run.
        names: Hashes; the first is the one to look under.

    Attributes:
        place: The unfinished run that goes on; ``None`` for a new one.
        tuned: How it was to be computed, where that was measured and the run begins anew.
    """

    def __init__(self, runs_dir: Path, names: list[str]) -> None:
        self.files = [runs_dir / FOLDER / name for name in names]
        self.place: RunFolder | None = None
        self.tuned: dict[str, Any] | None = None
        self._held: list[Path] = []

    def hold(self) -> bool:
        """Locks the names, as long as this object is there; whether the first could be."""
        for file in self.files:
            handle = _locked(file.with_suffix(".lock"))
            if handle is not None:
                # Of the process, not of the open file: workers, which are forks of it, do not keep it after its end.
                weakref.finalize(self, os.close, handle)
                self._held.append(file)
        return self.files[0] in self._held

    def begun(self, folder: RunFolder) -> None:
        """Leaves the name of a run that is about to begin; locked from here on, if it is not yet."""
        if not self._held:
            self.hold()
        for file in self._held:
            write_whole(file, folder.path.name + "\n")

    def find(self) -> RunFolder | None:
        """The run of the first name; ``None`` where none was begun, or it is gone."""
        try:
            name = self.files[0].read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        folder = RunFolder(self.files[0].parent.parent / name)
        return folder if OF_A_RUN.fullmatch(name) and folder.path.is_dir() else None


def claimed(composed: DictConfig) -> Claim:
    """The names of the run that a command asks for, and the unfinished run of the same command, if it is to go on.

    Args:
        composed: The whole config.

    Raises:
        Answer: That run has finished.
        UserError: Another process works on it.
    """
    wants: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    key, job, first = key_of(wants), slurm_job(), process_rank() == 0
    of_job = [] if job is None else [f"{key}_{job}"]
    goes_on = composed.autoresume or is_requeued()
    names = [*of_job, key] if of_job and not composed.autoresume else [key, *of_job]
    claim = Claim(Path(composed.runs_dir).expanduser().absolute(), names)
    if first and goes_on and not claim.hold():
        found = claim.find()
        raise UserError(
            f"another process works on {found.path if found else 'a run of this config'}.\n"
            "Wait for its end, or begin a run of its own with autoresume=false."
        )
    place = claim.find() if goes_on else None
    if place is None:
        return claim
    if _is_finished(place):
        if not first:
            raise SystemExit(0)
        raise Answer(f"finished already, nothing is trained again: {place.path}")
    claim.place = place
    if first and not place.last.is_dir():
        # Stopped before its first checkpoint: it begins anew, in the same folder and as it was tuned then.
        claim.tuned = read_config(place.config).trainer.get("tuned") if place.config.is_file() else None
        shutil.rmtree(place.path)
    return claim


def _is_finished(place: RunFolder) -> bool:
    if not place.summary.is_file():
        return False
    try:
        return json.loads(place.summary.read_text(encoding="utf-8"))["status"] == "finished"
    except (ValueError, KeyError, TypeError):
        return False


def _locked(file: Path) -> int | None:
    """A descriptor that holds the lock of a file; ``None`` where another process does, or nothing can be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
