"""A process with everything imported that starts ``python -m ft.train`` in children, and sends them signals.

A line of JSON in (what to call, what to wait for, the signal), one out: the exit codes, or the signals' numbers,
negative; and the seconds that it took. Each child leads a group of processes, which the signal is sent to, as a
terminal and ``timeout`` do. Several children are the processes of one run, as torchrun and srun start them.
"""

import glob
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).parent.parent


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        codes: Of its processes; a signal's number, negative, where one has ended it.
        seconds: From its start, or from the signal on if there was one.
    """

    codes: list[int]
    seconds: float

    @property
    def code(self) -> int:
        """Of the first process."""
        return self.codes[0]


class Commands:
    """The other end of the line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def train(
        self,
        words: Sequence[str],
        output: Path,
        *,
        after: float | None = None,
        number: int = signal.SIGKILL,
        once: str = "",
        environments: Sequence[Mapping[str, str]] = ({},),
        to: int | None = None,
    ) -> Ended:
        """Runs a command to its end, or until a signal.

        Args:
            words: Of the command line.
            output: File that what it prints is appended to.
            after: Seconds until the signal; ``None`` for none.
            number: Of the signal.
            once: The seconds count from when there is a file of this pattern.
            environments: One process each.
            to: The only process that gets the signal; ``None``: all do.
        """
        asked = {"words": list(words), "output": str(output), "after": after, "number": int(number), "once": once,
                 "environments": [dict(each) for each in environments], "to": to}  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return Ended(*json.loads(self.process.stdout.readline()))


@contextmanager
def commands() -> Iterator[Commands]:
    """Starts the process."""
    command = [sys.executable, "-m", "tests.killable"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        yield Commands(process)


def train(words: Sequence[str], output: str) -> None:
    """In a child."""
    from ft.command.verb import run_verb
    from ft.train import train

    os.setpgid(0, 0)
    with open(output, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["ft.train", *words]
    run_verb(train, "train")


def begin(words: Sequence[str], output: str, environment: Mapping[str, str]) -> int:
    """A command in a child of its own."""
    child = os.fork()
    if not child:
        os.environ.update(environment)
        leave_after(train, words, output)
    os.setpgid(child, child)  # here too: the signal may be sent before the child has come so far
    return child


def leave_after(command: Callable[..., None], *arguments: Any) -> NoReturn:
    """Ends a forked child with the exit code that a process of its own would have had."""
    code = 0
    try:
        command(*arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


def run(
    words: Sequence[str],
    output: str,
    after: float | None,
    number: int,
    once: str,
    environments: Sequence[Mapping[str, str]],
    to: int | None,
) -> Ended:
    """All processes of a command; the arguments are ``Commands.train``'s."""
    started, codes = time.monotonic(), {}
    children = [begin(words, output, each) for each in environments]

    def see() -> bool:
        for child in children:
            ended, status = (0, 0) if child in codes else os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
        return len(codes) == len(children)

    if after is not None:
        since = None if once else started
        while not see() and (since is None or time.monotonic() - since < after):
            if since is None and glob.glob(once):
                since = time.monotonic()
        if len(codes) < len(children):
            started = time.monotonic()
            for child in children if to is None else [children[to]]:
                with suppress(ProcessLookupError):
                    os.killpg(child, number)
    while not see():
        pass
    return Ended([codes[child] for child in children], time.monotonic() - started)


def main() -> None:
    # What a run needs: each child would import it anew.
    for name in ("ft.build.run", "ft.fit", "ft.build.autoresume", "ft.report", "ft.model.timm_model",
                 "ft.data.synthetic"):  # fmt: skip
        importlib.import_module(name)

    for line in sys.stdin:
        asked = json.loads(line)
        ended = run(**asked)
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    main()
