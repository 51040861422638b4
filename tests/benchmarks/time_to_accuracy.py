"""Seconds to the accuracy of full fine-tuning: ours beside timm's script, Lightning's callback, finetuning-scheduler.

    python -m tests.benchmarks.time_to_accuracy DATA OUT --weights-dir WEIGHTS --choose-rate
    python -m tests.benchmarks.time_to_accuracy DATA OUT --weights-dir WEIGHTS --accuracy-only --methods timm
    python -m tests.benchmarks.time_to_accuracy DATA OUT --weights-dir WEIGHTS --time-epochs 40
    python -m tests.benchmarks.time_to_accuracy DATA OUT --weights-dir WEIGHTS [--methods ours]
    python -m tests.benchmarks.time_to_accuracy DATA OUT --table

DATA holds ``<set>/{train,val,test}/<class>/*.jpg``; WEIGHTS holds ``mobilenetv2_100.safetensors``. A cell is one method
on one model, set and seed, in its own process; its clock starts with the process. Every finished cell is written to OUT
(JSON lines) at once, and a second call goes on with what is missing. Where finetuning-scheduler is installed in another
environment than ours, ``--fts-python`` names that one's Python.

The target is the test accuracy of ``timm`` after its last epoch, mean over its seeds. A method has reached it from the
first moment on at which the checkpoint that validation would pick scores the target on the test split and every later
pick does too. Test is scored outside the clock. The rate of full fine-tuning is chosen on validation among three, which
is not counted; every other method uses its own defaults or that rate.

Three kinds of cell: in full; ``--accuracy-only``, for a machine that is not quiet, or another one than the times are
from (niced, peers in channels_last, its time does not count, that of timm goes on after it was killed);
``--time-epochs N``, which times N steps of each phase and a validation pass in the exact setting of the method and
extrapolates its 8 epochs.

``--ours task.label_smoothing=0.1`` tries something else than the default; such cells belong into an OUT of their own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.cell import MODULES
from tests.benchmarks.peers.report import kind_of, table

MODELS = ("tf_efficientnet_lite0", "mobilenetv2_100")
SETS = ("flowers5", "trashnet", "sign_digits", "hymenoptera")
RATES = (1e-4, 3e-4, 1e-3)
CHOOSING_EPOCHS = 3
# Threads that wait for each other by spinning need seconds for what takes one when another process wants their core,
# and memory that is given back has to be had again (ft/machine/allocator.py). The arithmetic is the same; only cells
# whose time does not count run like this.
SHARED_MACHINE = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}
# Cores that others may keep busy while times are taken.
QUIET = 0.2


def read(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.is_file() else []


def write(out: Path, row: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def run_process(python: str, cell: dict[str, Any]) -> dict[str, Any] | None:
    """One cell in its own process; ``None`` if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        nice = ["nice", "-n", "19"] if cell.get("accuracy_only") else []
        environment = {**os.environ, **(SHARED_MACHINE if nice else {})}
        load = os.getloadavg()[0]
        command = [*nice, python, "-m", "tests.benchmarks.peers.cell"]
        started = time.monotonic()
        ended = subprocess.run([*command, json.dumps({**cell, "started": started}), str(result)], env=environment)
        if ended.returncode != 0 or not result.is_file():
            print(f"failed with exit code {ended.returncode}: {cell}", flush=True)
            return None
        return {**json.loads(result.read_text(encoding="utf-8")), "load": round(load, 2)}


def choose_rate(asked: argparse.Namespace, model: str, name: str) -> float:
    """The rate with the best validation accuracy after three epochs; each one's result is kept in OUT."""
    found = {
        row["rate"]: row["val"]
        for row in read(asked.out)
        if row["kind"] == "rate" and (row["model"], row["set"]) == (model, name)
    }
    for rate in RATES:
        if rate not in found:
            print(f"rate {rate} for {model} on {name}", flush=True)
            settings = {"choosing": True, "epochs": CHOOSING_EPOCHS, "accuracy_only": True, "rate": rate}
            result = run_process(sys.executable, {**_cell(asked, "timm", model, name, 0), **settings})
            if result is None:
                raise SystemExit(1)
            found[rate] = result["epochs"][-1]["val"]
            write(asked.out, {"kind": "rate", "model": model, "set": name, "rate": rate, "val": found[rate]})
    return max(RATES, key=lambda rate: found[rate])


def run_cell(asked: argparse.Namespace, method: str, model: str, name: str, seed: int, kind: str) -> None:
    """Runs one cell and writes it."""
    python = asked.fts_python if method == "finetuning_scheduler" else sys.executable
    cell = _cell(asked, method, model, name, seed)
    if method != "ours":
        cell["rate"] = choose_rate(asked, model, name)
    if kind == "accuracy":
        keep = asked.out.parent / f"{asked.out.stem}_kept" / f"{method}-{model}-{name}-{seed}"
        cell |= {"accuracy_only": True, "keep": str(keep)}
    if kind == "timing":
        cell["time_steps"] = asked.time_epochs
    print(f"{method} {model} {name} seed {seed} ({kind})", flush=True)
    result = run_process(python, cell)
    if result is not None:
        row = {"kind": kind, "method": method, "model": model, "set": name, "seed": seed, **result}
        row |= {"accuracy_only": kind == "accuracy", "extrapolated": kind == "timing"}
        write(asked.out, row)
        print(json.dumps(row), flush=True)


def _cell(asked: argparse.Namespace, method: str, model: str, name: str, seed: int) -> dict[str, Any]:
    return {
        "method": method, "model": model, "data": str(asked.data), "set": name, "seed": seed,
        "weights_dir": str(asked.weights_dir), "max_steps": asked.max_steps,
        "overrides": asked.ours if method == "ours" else [],
    }  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights-dir", type=Path, help="folder of <timm name>.safetensors")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(MODULES), choices=list(MODULES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--ours", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of ours, to try them")
    parser.add_argument("--choose-rate", action="store_true", help="only choose the rates of full fine-tuning")
    parser.add_argument("--accuracy-only", action="store_true", help="accuracies alone; time does not count")
    parser.add_argument(
        "--time-epochs", type=int, default=0, metavar="N", help="time N steps of the peers, extrapolate"
    )
    parser.add_argument("--fts-python", default=sys.executable, help="a Python that has finetuning-scheduler==2.14.1")
    parser.add_argument("--force", action="store_true", help="although the machine is not quiet")
    parser.add_argument(
        "--max-steps", type=int, default=0, help="steps an epoch at most: to try it out, with another OUT"
    )
    parser.add_argument("--table", action="store_true", help="only print what is there")
    return parser.parse_args()


def main() -> None:
    asked = parsed()
    if asked.table:
        print(table(read(asked.out)))
        return
    pairs = [(model, name) for model in asked.models for name in asked.sets]
    if asked.choose_rate:
        for model, name in pairs:
            print(f"{model} on {name}: {choose_rate(asked, model, name)}", flush=True)
        return
    kind = "accuracy" if asked.accuracy_only else "timing" if asked.time_epochs else "full"
    methods = [method for method in asked.methods if kind != "timing" or method != "ours"]
    known = {kind_of(row) for row in read(asked.out)}
    todo = [
        cell
        for seed in asked.seeds
        for model, name in pairs
        for method in methods
        if (cell := (method, model, name, seed, kind)) not in known
    ]
    minutes = {"accuracy": 25, "timing": 3, "full": 15}[kind] * len(todo)
    print(f"{len(todo)} cells to run: about {minutes} minutes on 2 cores", flush=True)
    for cell in todo:
        # Each time anew: another call may have been running beside this one.
        if cell in {kind_of(row) for row in read(asked.out)}:
            continue
        if kind != "accuracy" and not asked.force:
            require_quiet()
        run_cell(asked, *cell)
    print(table(read(asked.out)))


def busy_cores(seconds: float = 5.0) -> float:
    """How many cores are at work now. Not the load average, in which the cell before lingers for minutes."""
    idle, total = _ticks()
    time.sleep(seconds)
    idle_later, total_later = _ticks()
    return (os.cpu_count() or 1) * (1 - (idle_later - idle) / max(1, total_later - total))


def require_quiet() -> None:
    """Refuses to take times beside other work; gives it half a minute to end."""
    busy = 0.0
    for _ in range(6):
        busy = busy_cores()
        if busy <= QUIET:
            return
    raise SystemExit(f"{busy:.1f} cores are at work (load {os.getloadavg()[0]:.1f}): times would mean nothing. --force")


def _ticks() -> tuple[int, int]:
    """Of all cores since the machine started, as Linux counts them: idle, and all."""
    ticks = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


if __name__ == "__main__":
    main()
