"""SLURM: a job that is told of its end asks to be started again, and goes on in the same run folder.

    #SBATCH --requeue --signal=USR1@120     two minutes before the time limit SLURM sends SIGUSR1 to each task

The run stops as it does at Ctrl-C, and its first process calls ``scontrol requeue``. SLURM then starts the same command
again; ``ft.build.autoresume`` knows from SLURM's variables that it is the same job. Of a job that SLURM itself puts
back, after SIGTERM or a node's failure, the same is true.

Not Lightning's own way: it writes its checkpoint wherever the signal finds it, inside a step of the optimizer too.
"""

import os
import shutil
import signal
import subprocess
import sys


def slurm_job() -> str | None:
    """The number of the SLURM job that this process is part of, in SLURM's own words; ``None`` where there is none."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array and os.environ.get("SLURM_ARRAY_TASK_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID") or None


def is_requeued() -> bool:
    """Whether SLURM has started this job before."""
    return slurm_job() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def requeue_signal() -> list[signal.Signals]:
    """The signal that announces the time limit; none outside SLURM."""
    return [] if slurm_job() is None else [signal.SIGUSR1]


def requeue() -> bool:
    """Asks SLURM to start this job again, and tells whether it will."""
    job = slurm_job()
    command = shutil.which("scontrol")
    if job is None or command is None:
        print("not requeued: there is no scontrol here. Submit the job again with autoresume=true.", file=sys.stderr)
        return False
    asked = subprocess.run([command, "requeue", job], capture_output=True, text=True)
    if asked.returncode:
        why = (asked.stderr.strip().splitlines() or [f"scontrol ended with exit code {asked.returncode}"])[-1]
        print(f"not requeued: {why}. Submit the job again with autoresume=true.", file=sys.stderr)
        return False
    print(f"SLURM job {job} is requeued, and goes on in the same run folder", flush=True)
    return True
