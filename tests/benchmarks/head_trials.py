"""Seconds of 64 head-level trials of a sweep, beside those of one such trial: each a command of its own.

    python -m tests.benchmarks.head_trials DATA OUT [--set flowers5] [--trials 64] [--rounds 3]

DATA holds ``<set>/{train,val,test}/<class>/*.jpg``. In each round, in an order that alternates:

    one     python -m ft.train recipe=head data=folder data.root=DATA/SET report=false
    sweep   python -m ft.train -m sweep=head data=folder data.root=DATA/SET sweep.trials=64 sweep.report=false

once with an empty cache folder for each (cold), and once more with the folder it left (warm); clock from the start of
the process to its end. tf_efficientnet_lite0, start-up and test included. About eight minutes a round on 2 cores, which
should have nothing else to do; the share that other processes took is printed. Each finished cell is written to OUT
(JSON lines) at once; cells that are there are not run again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.quiet import others_share

COLD, WARM = "cold", "warm"
ONE, SWEEP = "one", "sweep"


def words(kind: str, root: Path, runs: str, trials: int) -> list[str]:
    """Of the command line."""
    common = ["data=folder", f"data.root='{root}'", f"runs_dir='{runs}'"]
    if kind == ONE:
        return ["recipe=head", "report=false", *common]
    return ["-m", "sweep=head", f"sweep.trials={trials}", "sweep.report=false", *common]


def seconds(given: Sequence[str], cache: str) -> float:
    """Of one command, from the start of its process to its end.

    Raises:
        RuntimeError: It did not end well.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ft.train", *given],
        capture_output=True, text=True, env={**os.environ, "FT_CACHE_DIR": cache},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - started


def check(runs: Path, trials: int) -> dict[str, Any]:
    """What a sweep has left: every trial finished, computed together, with a whole run folder.

    Raises:
        RuntimeError: A trial is missing, or was computed alone.
    """
    (file,) = [found for found in runs.glob("sweeps/*/trials.json") if found.parent.name != "last"]
    rows = json.loads(file.read_text(encoding="utf-8"))
    jobs = [job for row in rows for job in row["jobs"]]
    finished = [row for row in rows if row["state"] == "finished"]
    whole = [job for job in jobs if (file.parent / job["run"] / "predictions" / "test.safetensors").is_file()]
    if not len(finished) == len(whole) == trials or any(job["together"] < 2 for job in jobs):
        raise RuntimeError(f"{len(finished)} of {trials} trials are finished, {len(whole)} run folders are whole")
    return {"best": max(row["value"] for row in finished), "together": min(job["together"] for job in jobs)}


def measure(kind: str, root: Path, trials: int) -> list[dict[str, Any]]:
    """A cold command, then a warm one."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for state in (COLD, WARM):
            with tempfile.TemporaryDirectory() as runs:
                others = others_share(1.0)
                taken = seconds(words(kind, root, runs, trials), cache)
                found = check(Path(runs), trials) if kind == SWEEP else {}
            rows.append({"kind": kind, "cache": state, "seconds": round(taken, 2), "others": round(others, 2), **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", default="flowers5")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    lines = asked.out.read_text(encoding="utf-8").splitlines() if asked.out.is_file() else []
    same = {"set": asked.set, "trials": asked.trials}
    rows: list[dict[str, Any]] = [row for row in map(json.loads, lines) if same.items() <= row.items()]
    done = {(row["round"], row["kind"]) for row in rows}
    cells = [(at, kind) for at in range(asked.rounds) for kind in ((ONE, SWEEP) if at % 2 == 0 else (SWEEP, ONE))]
    left = [cell for cell in cells if cell not in done]
    print(f"{len(left)} of {len(cells)} cells are left: about {4 * len(left)} minutes on 2 quiet cores", flush=True)
    for at, kind in left:
        found = [{**same, "round": at, **row} for row in measure(kind, asked.data / asked.set, asked.trials)]
        with asked.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)
        rows += found
        print(*found, sep="\n", flush=True)
    for state in (COLD, WARM):
        one, sweep = (
            statistics.median(row["seconds"] for row in rows if (row["kind"], row["cache"]) == (kind, state))
            for kind in (ONE, SWEEP)
        )
        print(f"{state}: one {one:.1f} s, {asked.trials} trials {sweep:.1f} s, ratio {sweep / one:.2f}")


if __name__ == "__main__":
    main()
