"""One job from what is asked to what came of it: whatever happens inside ends in ``result.json``."""

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from ft.build.trainer import process_rank
from ft.errors import NotFinite, UserError
from ft.faults.memory import is_out_of_memory
from ft.job_folder import FAILED, JobFolder, Result
from ft.jobs.printed import printed_to
from ft.jobs.run import NotANumber, run


def run_job(config: DictConfig, *, started: float) -> float | None:
    """Does what a job's folder asks for.

    Args:
        config: Composed; ``sweep.job`` names the folder.
        started: When the wait for it began, as ``time.monotonic()`` tells it.

    Returns:
        The task's metric, where the job has one.

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM; the job goes on with the next call.
    """
    folder = JobFolder(Path(config.sweep.job))
    with printed_to(folder):
        try:
            _kind(folder.job().kind)(folder, config, started=started)
        except Exception as error:
            if process_rank() == 0:
                _fail(folder, error, started=started)
        finally:
            # The next job of this process wants the memory.
            gc.collect()
    result = folder.result()
    return None if result is None else result.value


def _kind(kind: str) -> Callable[..., None]:
    # Each kind's own imports are paid by the jobs that are of it.
    if kind == "heads":
        from ft.jobs.heads import run_heads

        return run_heads
    if kind == "backbone":
        from ft.jobs.backbone import score_backbone

        return score_backbone
    if kind == "soup":
        from ft.jobs.soup import make_soup

        return make_soup
    return run


def _fail(folder: JobFolder, error: Exception, *, started: float) -> None:
    job = folder.job()
    folder.traceback.write_text(traceback.format_exc(), encoding="utf-8")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = "\n".join(lines[:3]) or type(error).__name__
    result = Result(FAILED, why=why(error), message=said, seconds=round(time.monotonic() - started, 2))
    folder.answer(result)
    for path in job.settings.get("members", ()) if job.kind == "heads" else ():
        member = JobFolder(Path(path))
        if member.result() is None:
            member.answer(replace(result, together=len(job.settings["members"])))


def why(error: Exception) -> str:
    """The kind of a failure, as ``Result.why`` has it."""
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, UserError):
        return "mistake"
    if isinstance(error, NotANumber | NotFinite):
        return "not a number"
    return "raised"
