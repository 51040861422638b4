"""Seconds until the first epoch is trained: of a first run, and of a second one that finds what the first has kept.

    python -m tests.benchmarks.second_run DATA OUT [--sets trashnet] [--rounds 3]

DATA holds ``<set>/{train,val,test}/<class>/*.jpg``. In each round a run with an empty cache folder and then one with
the folder it left, both ``python -m ft.train data=folder data.root=DATA/<set>`` and nothing else, ended when the line
of their first epoch appears; clock from the start of the process. About a minute and a half a round and set on 2
cores; every finished round is written to OUT (JSON lines) at once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def until_first_epoch(root: Path, cache: str, runs: str) -> float:
    """Seconds from the start of the process to the line of its first epoch."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "ft.train", "data=folder", f"data.root='{root}'", f"runs_dir='{runs}'"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "FT_CACHE_DIR": cache},
    )  # fmt: skip
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith("epoch 1/"):
            seconds = time.perf_counter() - started
            process.kill()
            process.wait()
            return seconds
    raise RuntimeError("".join(said[-20:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=["trashnet"])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(f"about {1.5 * asked.rounds * len(asked.sets):.0f} minutes on 2 cores", flush=True)
    rows: list[dict[str, Any]] = []
    for number in range(asked.rounds):
        for name in asked.sets:
            with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as runs:
                first, second = (until_first_epoch(asked.data / name, cache, runs) for _ in range(2))
            rows.append({"set": name, "round": number, "first": round(first, 2), "second": round(second, 2)})
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    for name in asked.sets:
        first, second = (
            statistics.median(row[key] for row in rows if row["set"] == name) for key in ("first", "second")
        )
        print(f"{name}: first {first:.1f} s, second {second:.1f} s, ratio {second / first:.2f}")


if __name__ == "__main__":
    main()
