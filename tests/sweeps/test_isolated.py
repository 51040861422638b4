"""A job in a process of its own: every way in which it can end. Scripts stand in for the interpreter."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ft.job_folder import FINISHED, Job, JobFolder, Result
from ft.sweeps.running.isolated import how_it_ended, run_all_isolated, run_isolated
from tests.conftest import TINY

RESULT = '(folder / \'result.json\').write_text(\'{"status": "finished", "value": 0.5}\')\n'


@pytest.fixture
def new_job(tmp_path: Path) -> Callable[..., JobFolder]:
    def make(name: str, *overrides: str, run: str = "") -> JobFolder:
        folder = JobFolder(tmp_path / "it's a sweep" / name)
        folder.ask(Job("run", name, run=run, overrides=overrides), "")
        return folder

    return make


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """A program that is called as Python would be, and knows the job's folder."""

    def make(code: str) -> str:
        path = tmp_path / "python"
        start = "import os, signal, sys, time\nfrom pathlib import Path\n"
        word = "folder = Path(sys.argv[-1].partition('=')[2][1:-1].replace(\"\\\\'\", \"'\"))\n"
        path.write_text(f"#!{sys.executable} -S\n{start}{word}{code}")
        path.chmod(0o755)
        return str(path)

    return make


def test_a_job_that_ends_well_has_the_result_it_wrote(new_job, script):
    folder = new_job("a", "seed=3")
    run_isolated(
        folder,
        python=script("print(sys.argv[1:-1], flush=True)\n" + RESULT),
        hydra=["hydra.mode=MULTIRUN", "hydra.searchpath=[a]"],
    )
    assert folder.result() == Result(FINISHED, value=0.5)
    assert folder.output.read_text() == "['-m', 'ft.train', 'hydra.mode=RUN', 'hydra.searchpath=[a]', 'seed=3']\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("os._exit(7)", "exit code 7 before it had written a result"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "ended by SIGKILL. That is what the system does when memory runs out.",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV."),
    ],
)
def test_a_process_that_dies_is_a_failed_job(new_job, script, code, told):
    folder = new_job("a")
    folder.output.write_text("of an earlier attempt\n")
    run_isolated(folder, python=script(f"print('epoch 1', flush=True)\nprint('epoch 2', flush=True)\n{code}\n"))
    result = folder.result()
    assert (result.status, result.why) == ("failed", "killed")
    assert told in result.message.splitlines()[0]
    assert result.message.splitlines()[1:] == ["epoch 2"]
    assert result.seconds > 0
    assert folder.output.read_text() == "of an earlier attempt\nepoch 1\nepoch 2\n"


def test_a_process_that_says_nothing_dies_without_a_last_line(new_job, script):
    folder = new_job("a")
    folder.output.write_text("of an earlier attempt\n")
    run_isolated(folder, python=script("os._exit(1)\n"))
    assert len(folder.result().message.splitlines()) == 1


def test_a_mistake_that_the_verb_tells_is_one_of_the_user(new_job, script):
    folder = new_job("a")
    told = "ft: optimizer=adm is not a choice."
    run_isolated(folder, python=script(f"print({told!r}, file=sys.stderr)\nsys.exit(2)\n"))
    assert (folder.result().why, folder.result().message) == ("mistake", told)


def test_jobs_run_side_by_side_and_share_the_processor(new_job, script):
    folders = [new_job("a"), new_job("b")]
    # Each waits for the other to have begun.
    code = (
        "(folder / 'begun').write_text(os.environ['OMP_NUM_THREADS'])\n"
        "other = folder.parent / ('b' if folder.name == 'a' else 'a') / 'begun'\n"
        "while not other.exists(): time.sleep(0.01)\n" + RESULT
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        patch.setattr("ft.sweeps.running.isolated.processors", lambda: 8)
        run_all_isolated(folders, at_a_time=2, python=script(code))
    assert [folder.result().status for folder in folders] == ["finished", "finished"]
    assert [(folder.path / "begun").read_text() for folder in folders] == ["4", "4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_let_the_jobs_that_run_end_in_order(new_job, script, number):
    folders = [new_job("a"), new_job("b"), new_job("c")]
    code = (
        "def stop(*_):\n    (folder / 'saved').write_text('')\n    os._exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\n(folder / 'begun').write_text('')\ntime.sleep(60)\n"
    )

    def when_begun() -> None:
        while not all((folder.path / "begun").exists() for folder in folders[:2]):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=when_begun, daemon=True).start()
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run_all_isolated(folders, at_a_time=2, python=script(code))
    assert signal.getsignal(number) is before
    assert [(folder.path / "saved").exists() for folder in folders] == [True, True, False]
    assert [folder.result() for folder in folders] == [None, None, None]


def test_a_job_that_is_interrupted_itself_ends_the_sweep_and_leaves_no_result(new_job, script):
    folder = new_job("a")
    with pytest.raises(KeyboardInterrupt):
        run_isolated(folder, python=script("sys.exit(130)\n"))
    assert folder.result() is None


def test_a_job_that_an_earlier_sweep_has_left_running_is_waited_for(new_job, script):
    folder = new_job("a")
    with open(folder.path / ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # As after kill -9: the sweep is gone, its job holds the lock that it has inherited.
        text = json.dumps({"status": "finished"})
        code = f"import time; time.sleep(0.4); open({str(folder.path / 'result.json')!r}, 'w').write({text!r})"
        left = subprocess.Popen([sys.executable, "-S", "-c", code], pass_fds=[lock.fileno()])
    run_isolated(folder, python=script("(folder / 'begun').write_text('')\n"))
    assert left.wait() == 0
    assert folder.result() == Result(FINISHED)
    assert not (folder.path / "begun").exists()


def test_a_signal_without_a_name_has_its_number():
    assert how_it_ended(-200) == "its process was ended by signal 200."


@pytest.mark.full
def test_a_training_run_in_a_process_of_its_own(new_job, tmp_path):
    folder = new_job("a", *TINY, f"runs_dir='{tmp_path}/runs'", run=str(tmp_path / "run"))
    run_isolated(folder)
    result = folder.result()
    assert result.status == FINISHED, result.message
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert result.metrics["val/loss"] == summary["val/loss"]
