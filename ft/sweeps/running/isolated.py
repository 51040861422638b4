"""A job in a process of its own: whatever ends that process, the sweep and its other jobs go on.

    python -m ft.train <the job's overrides> sweep.job=<its folder>        what it prints: output.txt

A process that leaves no result, because a signal, the system's out-of-memory killer or a library ended it, gets one
from here. Ctrl-C, and SIGTERM, stop the jobs in order: they write their checkpoints and leave no result, so they go on
with the next call. A sweep that is itself killed leaves its jobs running: the next one waits for them by their locks.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from ft.errors import Terminated
from ft.job_folder import FAILED, JobFolder, Result
from ft.processors import processors

ROOT = Path(__file__).parent.parent.parent.parent
# Exit codes of a verb: ft.command.verb, whose import would begin Hydra.
MISTAKE, INTERRUPTED, TERMINATED = 2, 130, 143
# Seconds between two looks at a lock that another process holds.
PAUSE = 0.2


def run_isolated(folder: JobFolder, *, python: str = sys.executable, hydra: Sequence[str] = ()) -> None:
    """Runs one job to its end; afterwards it has a result.

    Args:
        folder: Of the job.
        python: The interpreter.
        hydra: The sweep's overrides of Hydra's own keys.

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM, here or in the job, once its process has ended.
    """
    run_all_isolated([folder], python=python, hydra=hydra)


def run_all_isolated(
    folders: Sequence[JobFolder], *, at_a_time: int = 1, python: str = sys.executable, hydra: Sequence[str] = ()
) -> None:
    """The same for several jobs, a few side by side; each is offered its share of the processor.

    Raises:
        KeyboardInterrupt: Likewise; jobs that were waiting are not begun.
    """
    processes = Processes(threads=max(1, processors() // at_a_time) if at_a_time > 1 else None)

    def run(folder: JobFolder) -> None:
        if not processes.asked:
            _run(folder, processes, [python, *words(folder, hydra)])

    with processes.forwarding(), ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(run, folders))
    if processes.asked:
        raise Terminated if processes.terminated else KeyboardInterrupt


def words(folder: JobFolder, hydra: Sequence[str]) -> list[str]:
    """What a job's process is called with.

    Of Hydra's own keys only where configs are. The others are the sweep's: with its ``hydra.mode`` the job would be a
    sweep too, and its jobs likewise.
    """
    where = [word for word in hydra if word.startswith("hydra.searchpath=")]
    return ["-m", "ft.train", "hydra.mode=RUN", *where, *folder.job().overrides, job_word(folder)]


def job_word(folder: JobFolder) -> str:
    """Tells a run which job it is."""
    path = str(folder.path).replace("\\", "\\\\").replace("'", "\\'")
    return f"sweep.job='{path}'"


class Processes:
    """Those that run now; a signal to this process reaches all of them.

    Args:
        threads: Of each, where the environment does not say; ``None`` leaves it to them.

    Attributes:
        asked: Whether they are to stop.
        terminated: Whether SIGTERM said so.
    """

    def __init__(self, *, threads: int | None) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = {**os.environ, "PYTHONPATH": path}
        if threads is not None:
            self.environment.setdefault("OMP_NUM_THREADS", str(threads))
        self.asked = False
        self.terminated = False
        self._running: set[subprocess.Popen[bytes]] = set()
        # A signal's handler may interrupt the thread that holds it.
        self._lock = threading.RLock()

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        """Inside, Ctrl-C and SIGTERM are for the processes."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread alone.
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, command: Sequence[str], output: IO[bytes], lock: int) -> int:
        """The exit code of a command, negative for a signal.

        Args:
            command: Words.
            output: Of both its streams.
            lock: A descriptor that it keeps open while it lives.
        """
        with self._lock:
            # In a session of its own: the terminal's Ctrl-C would reach it a second time, and that stops it at once.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                pass_fds=[lock],
                start_new_session=True,
            )
            self._running.add(process)
        if self.asked:
            self._interrupt(process)
        code = process.wait()
        with self._lock:
            self._running.discard(process)
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.asked, self.terminated = True, number == signal.SIGTERM
        with self._lock:
            for process in self._running:
                self._interrupt(process)

    def _interrupt(self, process: subprocess.Popen[bytes]) -> None:
        # As a terminal does: the decoding workers get it too. It may just have ended.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)


def _run(folder: JobFolder, processes: Processes, command: Sequence[str]) -> None:
    with open(folder.path / ".lock", "wb") as lock, open(folder.output, "ab") as output:
        if not _alone(lock.fileno(), processes) or folder.result() is not None:
            return
        began, started = output.tell(), time.monotonic()
        code = processes.run(command, output, lock.fileno())
    if folder.result() is not None:
        return
    if processes.asked or code in (INTERRUPTED, TERMINATED, -signal.SIGINT):
        processes.terminated = processes.terminated or code == TERMINATED
        processes.asked = True
        return
    lines = _printed(folder.output, began)
    why = "mistake" if code == MISTAKE else "killed"
    told = lines[-3:] if code == MISTAKE else [how_it_ended(code), *lines[-1:]]
    folder.answer(Result(FAILED, why=why, message="\n".join(told), seconds=round(time.monotonic() - started, 2)))


def how_it_ended(code: int) -> str:
    """A sentence for people, of the exit code of a process that left no result."""
    if code >= 0:
        return f"its process ended with exit code {code} before it had written a result."
    names = {each.value: each.name for each in signal.Signals}
    name = names.get(-code, f"signal {-code}")
    guess = " That is what the system does when memory runs out." if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}.{guess}"


def _alone(lock: int, processes: Processes) -> bool:
    """Waits until no process of an earlier sweep works on the job; whether that came about before Ctrl-C."""
    while not processes.asked:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(PAUSE)
    return False


def _printed(output: Path, began: int) -> list[str]:
    with output.open("rb") as file:
        file.seek(began)
        text = file.read().decode(errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]
