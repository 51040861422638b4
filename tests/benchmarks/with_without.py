"""With and without each plugin: accuracy and seconds on small subsets of real photos.

    python -m tests.benchmarks.with_without DATA OUT [--sets flowers5 trashnet] [--rows ...] [--seeds 0 1 2]

DATA holds ``<set>/{train,val,test}/<class>/*.jpg`` and ``<set>/train800.txt``, the 800 training images that are used. A
cell is one run of five epochs of tf_efficientnet_lite0 at 224 pixels: one to six minutes on 2 cores, all 54 about three
hours and a half. Every finished cell is written to OUT (JSON lines) at once; a second call goes on with what is missing
and prints the table of what is there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GRADUAL = ("plugins.gradual_unfreezing.stages_per_phase=2",)
ROWS: dict[str, tuple[str, ...]] = {
    "full fine-tuning": (),
    "linear probe": ("plugins=[linear_probe]",),
    "gradual unfreezing": ("plugins=[gradual_unfreezing]", *GRADUAL),
    "+ augmentation": ("plugins=[gradual_unfreezing,augmentation]", *GRADUAL),
    "+ dropout tuning": ("plugins=[gradual_unfreezing,augmentation,dropout_tuning]", *GRADUAL),
    "full + mixup": ("plugins=[mixup]",),
    "full + ema": ("plugins=[ema]",),
    "full + layer_decay": ("plugins=[layer_decay]",),
    "full + l2_sp": ("plugins=[l2_sp]", "optimizer.weight_decay=0"),
}
COMMON = ("data=folder", "model=efficientnet_lite", "model.img_size=224", "trainer.max_epochs=5")


def run_cell(data: Path, name: str, row: str, seed: int) -> dict[str, Any]:
    """Trains once and returns what the summary says."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-m", "ft.train", *COMMON, *ROWS[row], f"seed={seed}", f"runs_dir='{folder}'",
             f"data.root='{data / name}'", f"data.subset_file='{data / name / 'train800.txt'}'"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-2000:]
        summary = json.loads((Path(folder) / "last" / "summary.json").read_text(encoding="utf-8"))
    return {
        "set": name, "row": row, "seed": seed, "val": summary["val/acc"], "test": summary["test/acc"],
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def table(cells: list[dict[str, Any]]) -> str:
    """Test accuracy as mean (smallest to largest), and the median of the seconds."""
    lines = ["| set | | seeds | test accuracy | seconds |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(cell["set"] for cell in cells):
        for row in ROWS:
            found = [cell for cell in cells if (cell["set"], cell["row"]) == (name, row)]
            if found:
                tests = [cell["test"] for cell in found]
                lines.append(
                    f"| {name} | {row} | {len(found)} | {statistics.mean(tests):.4f} ({min(tests):.4f} to "
                    f"{max(tests):.4f}) | {statistics.median(cell['seconds'] for cell in found):.0f} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=["flowers5", "trashnet"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    asked = parser.parse_args()
    done = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.is_file() else []
    known = {(cell["set"], cell["row"], cell["seed"]) for cell in done}
    # Seed by seed, so that every row is seen early and drifts of the machine spread over all of them.
    todo = [
        cell
        for seed in asked.seeds
        for name in asked.sets
        for row in asked.rows
        if (cell := (name, row, seed)) not in known
    ]
    print(f"{len(todo)} cells to run, {len(known)} done: about {4 * len(todo)} minutes on 2 cores", flush=True)
    for cell in todo:
        done.append(run_cell(asked.data, *cell))
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(done[-1], flush=True)
    print(table(done))


if __name__ == "__main__":
    main()
