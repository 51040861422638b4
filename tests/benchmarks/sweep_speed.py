"""24 trials of one search space: hydra-optuna-sweeper 1.3.0 without and with our caches, beside our own sweeper.

    python -m tests.benchmarks.sweep_speed DATA OUT --peer-python PYTHON [--columns ...] [--seeds 0 1 2]
    python -m tests.benchmarks.sweep_speed DATA OUT --peer-python PYTHON --peer-trials 6     extrapolates the peer
    python -m tests.benchmarks.sweep_speed - OUT --peer-python PYTHON --try                  two minutes, tiny
    python -m tests.benchmarks.sweep_speed DATA OUT --table

DATA holds ``flowers5/{train,val}/<class>/*.jpg`` and ``flowers5/train800.txt``; PYTHON has what
``peers/optuna_sweeper/requirements.txt`` lists. A cell is one column with one seed, one process, its clock from the
start of the process to its end, with a cache folder of its own that is empty at first. Nothing else may run beside it.
About an hour for each of the peer's cells on 2 cores. A finished cell is written to OUT (JSON lines) at once; a
second call goes on with what is missing. The peer cannot go on inside a cell: one that was killed is shown as what its
finished trials extrapolate to (~), until it is measured again from the beginning.

What is compared, and why it is fair:

The same task: ``python -m ft.train`` with the data, the backbone (tf_efficientnet_lite0), 3 epochs at full depth
(``recipe=full``: every stage trains from the first step, there is nothing frozen to store), the same space, the same
number of trials, the same seed of the sampler, the same test of what was found: the task's metric on all validation
images, of the best checkpoint of the best trial that ran to its end. In every column trials follow each other in one
process (two in ``ours``), so that nobody pays the imports again, and none tests or writes a report. What a trial does
alone, measuring precision, threads and workers included (``trainer.autotune``), is in every column as well: without it
the peer would be slower, and not by its own fault. Both samplers are Optuna's TPE as each tool sets it up: 10 random
trials first and one parameter at a time there, 8 and all parameters together here.

    optuna          the peer, cache=off data.decoded=off: the bar. It has no pruner; every trial has all its epochs.
    optuna_cached   the peer, with our stored images and activations: what the caches do without the sweeper
    ours            our sweeper: the caches, and only promising trials are run as asked (PRUNING below)
    ours_auto       the same, but with recipe=auto, the project's default, which solves the head, stores what frozen
                    stages compute and opens the rest in phases: not the same computation, and no part of the bar.
                    The row says what a user who names no recipe gets for the same question in the same 3 epochs; in so
                    few it opens 3/8 of the backbone, so "full depth" it is not.

In ``ours`` every trial is first run on smaller images (PRUNING below): the same steps and the same schedule, for a
fraction of the time. The best four of the 24 are then run as asked, and only they count. Last, the average of their
weights takes their place if it validates better: the table shows the best trial and the average, each against the best
trial of the peer. Two trials run side by side on one thread each: a step on small images is too short to gain from a
second thread. The peer runs one after the other (``n_jobs=1``), each with all the threads that measuring found useful.

Looking early does not do: a random head and a one-cycle schedule rank by how fast a rate learns. Pruned after a fifth
of the first epoch, and after the first (ASHA), the best of 24 came to 0.8715. ``--head solved``, for another OUT, gives
every column at full depth the best linear head to start from (Kumar et al. 2022, https://arxiv.org/abs/2202.10054):
again the same task. ``--pruning`` takes other words than PRUNING; both are in every row that is written.

A bar on the time alone would be met by looking at nothing, hence the second: the best validation accuracy must not be
lower by more than 0.3 point. It is a maximum over 24 noisy trials on some 600 images (one image is 0.16 point): compare
means over seeds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import optuna_sweeper
from tests.benchmarks.time_to_accuracy import read, require_quiet, write

ROOT = Path(__file__).parent.parent.parent
TITLES = {
    "optuna": "hydra-optuna-sweeper 1.3.0",
    "optuna_cached": "the same, with our caches",
    "ours": "ours",
    "ours_auto": "ours, recipe=auto",
}
TRIALS = 24
# The bars: share of the first column's time, and points of accuracy.
TIME_SHARE, ACCURACY_LOSS = 0.25, 0.3
# What a full-depth fine-tuning has to be tuned in, as a user would write it.
SPACE = (
    "optimizer.lr=tag(log,interval(1e-4,1e-2))",
    "optimizer.weight_decay=tag(log,interval(1e-3,0.3))",
    "optimizer.layer_decay=interval(0.5,1.0)",
    "model.head.drop_rate=interval(0.0,0.5)",
    "task.label_smoothing=interval(0.0,0.2)",
)
TASK = ("model=efficientnet_lite", "trainer.max_epochs=3", "test=false", "report=false")
# Seconds instead of hours: random weights, 64 images of shapes.
TRY_TASK = (
    "data=synthetic", "data.num_images=64", "data.size=32", "data.suggested.img_size=32", "data.batch_size=8",
    "data.num_workers=0", "model.name=test_resnet", "model.weights=none", "trainer.autotune=false",
    "trainer.max_epochs=3", "test=false", "report=false",
)  # fmt: skip
TRY_TRIALS = 6
CACHES_OFF = ("cache=off", "data.decoded=off")
PRUNING = (
    "launcher=joblib", "sweep.parallel=2", "sweep.screen={model.img_size:64}", "sweep.finalists=4", "sweep.soup=greedy",
)  # fmt: skip


def command(asked: argparse.Namespace, column: str, seed: int, folder: Path) -> list[str]:
    """The process of a cell."""
    data = asked.data / "flowers5"
    real = ("data=folder", f"data.root='{data}'", f"data.subset_file='{data / 'train800.txt'}'", *TASK)
    recipe = ("recipe=auto",) if column == "ours_auto" else ("recipe=full", f"model.head_init={asked.head}")
    common = [
        *(TRY_TASK if asked.tiny else real),
        *SPACE,
        *recipe,
        f"seed={seed}",
        f"runs_dir='{folder / 'runs'}'",
    ]
    if column.startswith("ours"):
        own = ["sweep.sampler=tpe", f"sweep.trials={trials_of(asked)}", "sweep.name=cell", "sweep.report=false"]
        return [sys.executable, "-m", "ft.train", "-m", *common, *own, *asked.pruning]
    count = min(asked.peer_trials or TRIALS, trials_of(asked))
    peer = optuna_sweeper.arguments(trials=count, seed=seed, record=folder / "record")
    caches = CACHES_OFF if column == "optuna" else ()
    return [asked.peer_python, "-m", "ft.train", "-m", *common, *peer, *caches]


def trials_of(asked: argparse.Namespace) -> int:
    """How many trials a whole cell has."""
    return TRY_TRIALS if asked.tiny else TRIALS


def finished(column: str, folder: Path) -> list[dict[str, Any]]:
    """Of each trial that has ended, in order: what it tried, seconds, value, epochs, and how it ended."""
    if not column.startswith("ours"):
        return optuna_sweeper.finished(folder / "runs", [word.partition("=")[0] for word in SPACE])
    rows = json.loads((folder / "runs" / "sweeps" / "cell" / "trials.json").read_text(encoding="utf-8"))
    return [
        {
            "params": row["params"],
            "seconds": row["seconds"],
            "value": row["value"],
            "epochs": row["metrics"].get("epochs"),
            "state": row["state"],
        }
        for row in rows
    ]


def measured(asked: argparse.Namespace, column: str, seed: int, seconds: float | None) -> dict[str, Any] | None:
    """What a cell's folder says; ``None`` where nothing can be said.

    Args:
        asked: The command line.
        column: Of the cell.
        seed: Of the cell.
        seconds: Of the whole process; ``None`` if it did not come to its end.
    """
    folder = kept(asked, column, seed)
    ended = finished(column, folder) if (folder / "runs").is_dir() else []
    whole = len(ended) == trials_of(asked) and seconds is not None
    if not whole:
        # Every trial of the peer's is the same amount of work; only its first has the imports. With pruning nothing
        # follows from a part.
        if column.startswith("ours") or len(ended) < 2:
            return None
        rest = statistics.mean(trial["seconds"] for trial in ended[1:])
        seconds = ended[0]["seconds"] + rest * (trials_of(asked) - 1)
    assert seconds is not None
    soup = folder / "runs" / "sweeps" / "cell" / "soup.json"
    best = max(trial["value"] for trial in ended if trial["state"] == "finished")
    return {
        "column": column, "seed": seed, "seconds": round(seconds, 1), "best": best,
        "soup": json.loads(soup.read_text(encoding="utf-8"))["value"] if soup.is_file() else None,
        "extrapolated": not whole,
        "head": asked.head, "pruning": asked.pruning if column.startswith("ours") else [], "trials": ended,
    }  # fmt: skip


def kept(asked: argparse.Namespace, column: str, seed: int) -> Path:
    """Where a cell's runs and caches are."""
    return asked.out.parent.absolute() / f"{asked.out.stem}_kept" / f"{column}-{seed}"


def run_cell(asked: argparse.Namespace, column: str, seed: int) -> None:
    """Runs one cell from its beginning, and writes it.

    Raises:
        SystemExit: The sweep failed; the folder of the cell holds what it printed.
    """
    folder = kept(asked, column, seed)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cache").mkdir(parents=True)
    started = time.perf_counter()
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        code = subprocess.run(
            command(asked, column, seed, folder), stdout=output, stderr=subprocess.STDOUT, cwd=ROOT,
            env={**os.environ, "FT_CACHE_DIR": str(folder / "cache")},
        ).returncode  # fmt: skip
    row = measured(asked, column, seed, time.perf_counter() - started)
    if code != 0 or row is None:
        raise SystemExit(f"{column}, seed {seed}: exit code {code}, see {folder / 'output.txt'}")
    write(asked.out, row)
    print({key: value for key, value in row.items() if key != "trials"}, flush=True)
    # A gigabyte of checkpoints and stored images a cell.
    shutil.rmtree(folder)


def table(rows: list[dict[str, Any]]) -> str:
    """Both bars, for every column; means over the seeds that a column has in common with the first."""
    cells = {(row["column"], row["seed"]): row for row in rows}
    lines = [
        "| | seeds | seconds | of the first | best val/acc | points | soup | trials | pruned | epochs |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for column, title in TITLES.items():
        seeds = [seed for name, seed in cells if name == column and ("optuna", seed) in cells]
        if seeds:
            own, first = ([cells[name, seed] for seed in seeds] for name in (column, "optuna"))
            lines.append(f"| {title} | {len(seeds)} | {_entries(own, first)} |")
    bars = f"Bars for ours: at most {TIME_SHARE} of the first's seconds, at most {ACCURACY_LOSS} points lower."
    return "\n".join([*lines, "", bars, "Points: against the first. ~: extrapolated from the trials that have ended."])


def _entries(own: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    def mean(rows: list[dict[str, Any]], key: str) -> float:
        return statistics.mean(row[key] for row in rows)

    about = "~" if any(row["extrapolated"] for row in [*own, *first]) else ""
    bests = [row["best"] for row in own]
    trials = [trial for row in own for trial in row["trials"]]
    pruned = sum(trial["state"] == "pruned" for trial in trials)
    epochs = sum(trial["epochs"] or 0 for trial in trials)
    return " | ".join(
        [
            f"{about}{mean(own, 'seconds'):.0f}",
            f"{about}{mean(own, 'seconds') / mean(first, 'seconds'):.3f}",
            f"{statistics.mean(bests):.4f} ({min(bests):.4f} to {max(bests):.4f})",
            f"{100 * (mean(own, 'best') - mean(first, 'best')):+.2f}",
            f"{mean(own, 'soup'):.4f}" if all(row.get("soup") for row in own) else "",
            *(f"{count / len(own):.0f}" for count in (len(trials), pruned, epochs)),
        ]
    )


def with_partial(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The finished cells, and what the peer's unfinished ones extrapolate to."""
    rows = read(asked.out)
    known = {(row["column"], row["seed"]) for row in rows}
    missing = [(column, seed) for column in TITLES for seed in asked.seeds if (column, seed) not in known]
    return rows + [row for cell in missing if (row := measured(asked, *cell, None)) is not None]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--peer-python", default="", help="a Python that has hydra-optuna-sweeper")
    parser.add_argument("--columns", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--peer-trials", type=int, default=0, help="only so many of the peer's 24, extrapolated")
    parser.add_argument("--head", default="random", choices=["random", "solved"], help="where the recipe is full")
    parser.add_argument("--pruning", nargs="+", default=list(PRUNING), help="of ours")
    parser.add_argument("--try", dest="tiny", action="store_true", help="tiny sizes, with another OUT")
    parser.add_argument("--force", action="store_true", help="although the machine is not quiet")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    return parser.parse_args()


def main() -> None:
    asked = parsed()
    known = {(row["column"], row["seed"]) for row in read(asked.out)}
    todo = [(column, seed) for seed in asked.seeds for column in asked.columns if (column, seed) not in known]
    if not asked.table and todo:
        if not asked.peer_python and any(column.startswith("optuna") for column, _ in todo):
            raise SystemExit("--peer-python is missing: see peers/optuna_sweeper/requirements.txt")
        share = (asked.peer_trials or TRIALS) / TRIALS
        minutes = sum(15 if column.startswith("ours") else 58 * share for column, _ in todo)
        print(f"{len(todo)} cells to run: about {2 if asked.tiny else minutes:.0f} minutes on 2 cores", flush=True)
        for column, seed in todo:
            if not (asked.force or asked.tiny):
                require_quiet()
            run_cell(asked, column, seed)
    print(table(with_partial(asked)))


if __name__ == "__main__":
    main()
