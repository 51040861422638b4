"""Several processes of one run end together: none waits for gradients that never come, none is left over.

    rank 0 (launched the others)   a thread looks after them: the first that ends by a fault ends the run
    rank 1, 2, ...                 the system ends them with the process that has launched them

A process that raises shows its own traceback; one that is killed cannot, and its signal is told for it.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from subprocess import Popen

from lightning.pytorch.strategies.launchers import subprocess_script
from torch.distributed import DistError

# Hands the process number of the first rank to those that it launches.
PARENT = "FT_PARENT"
# Seconds between two looks.
LOOK_EVERY = 0.5
# Seconds that the others have to end by themselves, as they do where all of them have met the same mistake.
GRACE = 5.0
PR_SET_PDEATHSIG = 1
# What a process says whose messages do not arrive.
WORDS = ("gloo", "NCCL", "onnection closed", "onnection reset")


def end_with_parent() -> None:
    """Has the system end this process when the one that has launched it is gone: a rank is of no use alone.

    Processes that were launched by hand, or by a job scheduler, are left as they are.
    """
    if PARENT not in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    # It may be gone already.
    if int(os.environ.get(PARENT, parent)) != os.getppid():
        os._exit(1)


def watch_children() -> None:
    """Has every launch from here on looked after by ``Watch``, in place of Lightning's observer.

    That one kills this process too, without a word of which had died, and before another can tell its mistake.
    """
    os.environ[PARENT] = str(os.getpid())
    subprocess_script._launch_process_observer = lambda children: Watch(children).start()


def lost_rank(error: Exception) -> str | None:
    """Which other process has died, where that is what an error of the first one says: it cannot know by itself.

    Args:
        error: Of a step that all processes share.
    """
    watch = next((thread for thread in threading.enumerate() if isinstance(thread, Watch)), None)
    if watch is None or not (isinstance(error, DistError) or any(words in str(error) for words in WORDS)):
        return None
    deadline = time.monotonic() + GRACE
    while not (failed := watch.failed()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return watch.told(*failed) if failed else None


class Watch(threading.Thread):
    """Ends the run when one of its processes ends by a fault.

    Args:
        children: Ranks 1, 2, ...
    """

    def __init__(self, children: Sequence[Popen[bytes]]) -> None:
        super().__init__(daemon=True, name="watch-ranks")
        self.children = children

    def run(self) -> None:
        while True:
            time.sleep(LOOK_EVERY)
            if failed := self.failed():
                return self._end(*failed)
            if all(child.poll() == 0 for child in self.children):
                return None

    def failed(self) -> tuple[int, int] | None:
        """Rank and exit code of the first that has ended by a fault."""
        codes = [child.poll() for child in self.children]
        return next(((rank, code) for rank, code in enumerate(codes, start=1) if code), None)

    def told(self, rank: int, code: int) -> str:
        """What happened, for people."""
        of = f"process {rank} of {len(self.children) + 1}"
        if code > 0:
            return f"{of} has ended with exit code {code}; its error is above."
        likely = ", likely because memory ran out" if code == -signal.SIGKILL else ""
        return (
            f"{of} was killed by {signal.Signals(-code).name}{likely}.\n"
            "The others have ended too; go on from the last checkpoint with resume=RUN."
        )

    def _end(self, rank: int, code: int) -> None:
        # The main thread tells it, if it comes so far: it may wait in code that no signal of Python's reaches.
        time.sleep(GRACE)
        for child in self.children:
            child.kill()
        print(f"ft: {self.told(rank, code)}", file=sys.stderr, flush=True)
        os._exit(code if code > 0 else 1)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os._exit(1)
