"""A sweep on digits, killed with kill -9 at random moments and begun again each time, beside the same sweep left alone.

    python -m tests.benchmarks.kill_sweep [--kills 5] [--seed 0] [--samplers grid random tpe] [--try]

Real runs: the default backbone on scikit-learn's digits, two epochs a trial, six trials. One sampler takes about six
minutes on 2 cores. Prints a line for each kill and a verdict for each sampler; ends with exit code 1 unless every trial
was run to its end exactly once, a kill cost at most one epoch, and winner and values are those of
the sweep that was left alone, to the last digit.

``trainer.autotune`` is off: of two sweeps at different moments it could measure that different ways of computing are
fastest, and the values would differ in their last digits for that reason.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
TASK = ("data=digits", "data.limit=320", "trainer.max_epochs=2", "trainer.autotune=false", "sweep.name=killed")
TRY = ("model.name=test_resnet", "model.weights=none", "data.num_workers=0")
GRID = ("optimizer=adam,adamw", "optimizer.lr=5e-4,1e-3,2e-3")
SEARCH = ("optimizer=adam,adamw", "optimizer.lr=tag(log,interval(2e-4,4e-3))", "sweep.trials=6")
NUM_TRIALS = 6


def command(runs: Path, sampler: str, *, tiny: bool) -> list[str]:
    """The sweep that goes on where it stopped: always the same words."""
    searched = GRID if sampler == "grid" else (*SEARCH, f"sweep.sampler={sampler}")
    words = [*TASK, *(TRY if tiny else ()), *searched, f"runs_dir='{runs}'", "sweep.report=false"]
    return [sys.executable, "-m", "ft.train", "-m", *words]


def start(words: Sequence[str], runs: Path) -> subprocess.Popen[bytes]:
    """In a group of its own, so that a kill takes its decoding processes too."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / "output.txt").open("ab") as output:
        return subprocess.Popen(
            words, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
            env={**os.environ, "FT_CACHE_DIR": str(runs / "cache")},
        )  # fmt: skip


def rows(runs: Path) -> list[dict[str, Any]]:
    """What is written of the trials; nothing before the first."""
    file = runs / "sweeps" / "killed" / "trials.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def trained(runs: Path) -> int:
    """Epochs that any attempt of any run has come to the end of: each prints a line."""
    files = (runs / "sweeps" / "killed" / "jobs").glob("*/output.txt")
    return sum(line.startswith("epoch ") for file in files for line in file.read_text(encoding="utf-8").splitlines())


def results(runs: Path) -> dict[str, str]:
    """Of every job that has ended: what came of it, as it is written."""
    folder = runs / "sweeps" / "killed" / "jobs"
    return {file.parent.name: file.read_text(encoding="utf-8") for file in folder.glob("*/result.json")}


def whole(runs: Path, words: Sequence[str]) -> float:
    """Seconds of the sweep to its end.

    Raises:
        SystemExit: It failed.
    """
    started = time.perf_counter()
    process = start(words, runs)
    try:
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if code != 0:
        raise SystemExit(f"exit code {code}:\n{(runs / 'output.txt').read_text(encoding='utf-8')[-3000:]}")
    return time.perf_counter() - started


def killed(runs: Path, words: Sequence[str], moments: Sequence[tuple[int, float]]) -> bool:
    """Kills the sweep at each of the moments, beginning it again in between, then lets it end.

    Args:
        runs: Where its runs go.
        words: Of the command.
        moments: After how many epochs, of all runs, and how many seconds later. By the clock alone a busy machine would
            move them all into the imports, or behind the end.

    Returns:
        Whether what had ended before a kill was left as it was by all that came after it.

    Raises:
        SystemExit: The sweep ended by itself.
    """
    kept: dict[str, str] = {}
    for number, (epochs, later) in enumerate(moments, start=1):
        process = start(words, runs)
        try:
            while process.poll() is None and trained(runs) < epochs:
                time.sleep(0.02)
            time.sleep(later)
        finally:
            ended = process.poll() is not None
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if ended:
            raise SystemExit(f"the sweep ended before kill {number}: see {runs / 'output.txt'}")
        kept |= results(runs)
        print(f"| {number} | {epochs} epochs and {later:.2f} s | {len(results(runs))} |", flush=True)
    whole(runs, words)
    ended = results(runs)
    return all(ended.get(key) == text for key, text in kept.items())


def compare(alone: list[dict[str, Any]], after: list[dict[str, Any]], runs: Path) -> list[str]:
    """What is not as promised; empty if all is well."""
    wrong = []
    numbers = [row["number"] for row in after]
    if numbers != list(range(NUM_TRIALS)):
        wrong.append(f"trials {numbers} instead of 0 to {NUM_TRIALS - 1}")
    if any(row["state"] != "finished" for row in after):
        wrong.append(f"states {[row['state'] for row in after]}")
    jobs = [job for row in after for job in row["jobs"]]
    folders = [path.name for path in (runs / "sweeps" / "killed" / "runs").iterdir() if path.name != "last"]
    if sorted(folders) != sorted({Path(job["run"]).name for job in jobs}):
        wrong.append(f"run folders {sorted(folders)}")
    for job in jobs:
        lines = (runs / "sweeps" / "killed" / job["run"] / "metrics.csv").read_text(encoding="utf-8").splitlines()
        if len(lines) != 3:
            wrong.append(f"{job['run']} has {len(lines) - 1} epochs in its metrics.csv instead of 2")
    for one, other in zip(alone, after, strict=False):
        if (one["params"], one["value"]) != (other["params"], other["value"]):
            wrong.append(
                f"trial {one['number']}: {other['params']} {other['value']}, alone {one['params']} {one['value']}"
            )
    best = [max(each, key=lambda row: row["value"])["number"] for each in (alone, after)]
    if best[0] != best[1]:
        wrong.append(f"the winner is trial {best[1]}, alone it was {best[0]}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--samplers", nargs="+", default=["grid"], choices=["grid", "random", "tpe", "gp", "cmaes"])
    parser.add_argument("--try", dest="tiny", action="store_true", help="a tiny model: one minute and a half")
    asked = parser.parse_args()
    print(f"about {(1.5 if asked.tiny else 6) * len(asked.samplers):.0f} minutes on 2 cores", flush=True)
    draw = random.Random(asked.seed)
    failed = False
    for sampler in asked.samplers:
        with tempfile.TemporaryDirectory() as folder:
            calm, hurt = Path(folder) / "alone", Path(folder) / "killed"
            seconds = whole(calm, command(calm, sampler, tiny=asked.tiny))
            num_epochs = trained(calm)
            pause = statistics.mean(row["seconds"] for row in rows(calm)) * NUM_TRIALS / num_epochs
            # Not before the first epoch, which would kill imports, and not so late that the sweep might end first.
            after = sorted(draw.sample(range(1, num_epochs - 1), asked.kills))
            moments = [(epochs, draw.uniform(0, pause)) for epochs in after]
            print(f"\n{sampler}: {NUM_TRIALS} trials, {num_epochs} epochs, alone in {seconds:.1f} s\n", flush=True)
            print("| kill | after | trials that had ended |\n|---|---|---|", flush=True)
            intact = killed(hurt, command(hurt, sampler, tiny=asked.tiny), moments)
            wrong = compare(rows(calm), rows(hurt), hurt)
            # A kill between an epoch's last step and its checkpoint costs that epoch.
            again = trained(hurt) - num_epochs
            wrong += [f"{again} epochs trained again"] if again > asked.kills else []
            wrong += [] if intact else ["a result that was there before a kill was written anew"]
            verdict = "; ".join(wrong) or "every trial once, the same winner, the same values"
            print(f"\n{sampler}: {verdict}; {again} epochs trained again", flush=True)
            failed |= bool(wrong)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
