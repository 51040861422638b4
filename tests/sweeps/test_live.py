"""What a sweep shows while it runs, on a terminal and elsewhere."""

import contextlib
import io
import re
from typing import Any

import pytest
from rich.console import Console

from ft.job_folder import FAILED, FINISHED, PRUNED
from ft.sweeps.live.live import Live
from ft.sweeps.live.table import MOST_RUNNING, LiveTable, chosen
from ft.sweeps.words import params_in_words, short_names, value_in_words


def row(number: int, state: str = FINISHED, value: float | None = None, why: str = "", **params: Any) -> dict[str, Any]:
    """Of ``trials.json``."""
    job = {"status": state if state in (FINISHED, PRUNED, FAILED) else "", "message": why, "why": "raised"}
    params = params or {"optimizer": "adam", "optimizer.lr": 10.0 ** -(number + 1)}
    return {"number": number, "params": params, "state": state, "value": value, "metrics": {}, "jobs": [job],
            "seconds": 0.0 if state == "running" else 12.34}  # fmt: skip


def told(*steps: list[dict[str, Any]], mode: str = "max", total: int | None = 5) -> list[str]:
    """Lines that are written where there is no terminal."""
    out = io.StringIO()
    with Live(total, "val/acc", mode, out) as live:
        for rows in steps:
            live.show(rows)
    return out.getvalue().splitlines()


def test_a_line_a_trial_that_has_ended_each_once():
    first = [row(0, value=0.9), row(1, "running")]
    second = [row(0, value=0.9), row(1, value=0.8), row(2, value=0.95), row(3, PRUNED, 0.99)]
    lines = told(first, first, second)
    assert lines[:4] == [
        "trial 0  optimizer=adam lr=0.1  val/acc 0.9000  (best so far)  12.3 s",
        "trial 1  optimizer=adam lr=0.01  val/acc 0.8000  12.3 s",
        "trial 2  optimizer=adam lr=0.001  val/acc 0.9500  (best so far)  12.3 s",
        "trial 3  optimizer=adam lr=0.0001  val/acc 0.9900  (pruned)  12.3 s",
    ]
    assert re.fullmatch(r"4 trials: 3 finished, 1 pruned  \d\.\d s", lines[4])
    assert lines[5:] == [
        "not begun: 1 of 5; the same command goes on",
        "best  trial 2  optimizer=adam lr=0.001  val/acc 0.9500",
    ]


def test_lower_is_better_where_the_mode_is_min():
    lines = told([row(0, value=3.0), row(1, value=4.0), row(2, value=2.0)], mode="min")
    assert ["best so far" in line for line in lines[:3]] == [True, False, True]
    assert lines[-1].startswith("best  trial 2")


def test_a_reason_is_told_once_and_then_counted():
    rows = [row(at, FAILED, why="out of paint\nand more") for at in range(50)] + [row(50, FAILED, why="odd")]
    lines = told(rows)
    assert lines[0].endswith("failed: out of paint  12.3 s")
    assert lines[49].endswith("failed for a reason told above (50 times now)  12.3 s")
    assert sum("out of paint" in line for line in lines) == 2
    assert lines[-2:] == ["failed 50 times: out of paint", "failed 1 time: odd"]


def test_what_a_job_prints_does_not_reach_it_nor_it_the_jobs_file(capsys):
    file = io.StringIO()
    with Live(2, "val/acc", "max") as live, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        print("of the job")
        live.show([row(0, value=0.9)])
    assert "trial 0" in capsys.readouterr().out
    assert file.getvalue() == "of the job\n"


def test_a_second_close_says_nothing_more_and_an_empty_sweep_nothing_at_all():
    out = io.StringIO()
    with Live(1, "val/acc", "max", out) as live:
        live.show([row(0, value=0.5)])
        live.close()
        once = out.getvalue()
    assert out.getvalue() == once
    assert told([]) == []


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def drawn(live: Live, *, height: int, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(LiveTable(live))
    return console.file.getvalue().rstrip("\n").splitlines()  # pyright: ignore[reportAttributeAccessIssue]


def test_the_table_has_the_best_first_marks_what_runs_and_fits_the_screen():
    live = Live(100, "val/acc", "max", io.StringIO())
    rows = [row(at, value=at / 100) for at in range(60)]
    live.show([*rows, row(60, "running"), row(61, FAILED, why="odd")])
    lines = drawn(live, height=20)
    assert len(lines) < 20
    assert [line.split()[0] for line in lines[1:4]] == ["59", "58", "57"]
    assert "running" in lines[-2]
    assert "61 of 100" in lines[-1]
    assert "1 failed" in lines[-1]
    assert "more below" in lines[-1]
    assert all(len(line) <= 40 for line in drawn(live, height=20, width=40))


@pytest.mark.parametrize("lines", [1, 2, 5, 30])
def test_the_best_and_what_runs_share_the_lines_there_are(lines: int):
    ranked, running = [row(at, value=0.5) for at in range(10)], [row(at, "running") for at in range(10, 20)]
    shown, now = chosen(ranked, running, lines)
    assert len(shown) + len(now) == min(lines, 20)
    assert shown[0] is ranked[0]
    assert len(now) == max(min(MOST_RUNNING, lines - 1), min(10, lines - 10))


def test_time_left_is_told_from_the_trials_of_this_call(monkeypatch):
    clock = iter([100.0, 100.0, *[130.0] * 9])
    monkeypatch.setattr("ft.sweeps.live.live.time.monotonic", lambda: next(clock))
    with Live(10, "val/acc", "max", io.StringIO()) as live:
        live.show([row(at, value=0.5) for at in range(4)])  # of an earlier call
        assert live.left is None
        live.show([row(at, value=0.5) for at in range(6)])
        assert live.left == pytest.approx(30 / 2 * 4)
        live.total = None
        assert live.left is None


def test_a_terminal_gets_a_table_that_is_gone_when_the_sweep_ends(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with Live(2, "val/acc", "max", out) as live:
        live.show([row(0, value=0.9)])
        with contextlib.redirect_stdout(io.StringIO()):
            live.show([row(0, value=0.9), row(1, value=0.8)])
    assert "best  trial 0" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_words():
    assert short_names(["optimizer", "optimizer.lr", "a.lr", "model.head.drop_rate"]) == {
        "optimizer": "optimizer", "optimizer.lr": "optimizer.lr", "a.lr": "a.lr", "model.head.drop_rate": "drop_rate",
    }  # fmt: skip
    assert (
        params_in_words({"plugins": ["ema", "mixup"], "a.b": None, "a.c": True}) == "plugins=[ema,mixup] b=null c=true"
    )
    assert params_in_words({}) == "defaults"
    assert value_in_words({"x": 0.123456, "y": []}) == "{x:0.1235,y:[]}"
