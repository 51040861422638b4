"""Images per second that a loader gives: decoded every time, decoded and kept, and found where they are kept.

    python -m tests.benchmarks.decode DATA OUT.json [--sets flowers5 trashnet] [--images 800] [--rounds 5]

DATA holds ``<set>/train/<class>/*.jpg``. Every round makes, one after the other, with the same number of worker
processes: a pass that decodes every time, a first pass with an empty cache, a second pass by a loader that has not seen
the first. Figures are medians over rounds, ratios are taken within a round. All files are read once before, so that no
pass waits for the disk; the load of the machine is written down beside the figures.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ft.cache.decoded import DecodedSplit, Room
from ft.data.folder import folder
from ft.data.module import DataModule, EncodedSplit, LoaderOptions
from ft.data.source import Split
from ft.data.transforms import EvaluationTransform
from ft.input_spec import InputSpec

VIEW = EvaluationTransform(InputSpec(224, 224, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.875))
PASSES = ("decoded every time", "first pass", "second pass")


def images_per_second(split: Split, workers: int, *, keep: bool) -> float:
    """Of a pass over the split, by a loader of its own; starting workers and opening files included."""
    started = time.perf_counter()
    room = Room(1 << 40, tell=print)
    data = DataModule(
        {"train": EncodedSplit(split.images, torch.arange(len(split)), split.names)},
        train_transform=VIEW,
        eval_transform=VIEW,
        options=LoaderOptions(32, workers),
        seed=0,
        in_memory=False,
        decoded={"train": DecodedSplit(split.images, room)} if keep else {},
    )
    count = sum(len(batch.index) for batch in data.evaluation_loader("train"))
    return count / (time.perf_counter() - started)


def measure(split: Split, workers: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of each pass in each round."""
    figures: dict[str, list[float]] = {name: [] for name in PASSES}
    images_per_second(split, workers, keep=False)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["FT_CACHE_DIR"] = cache
            for name in PASSES:
                figures[name].append(images_per_second(split, workers, keep=name != PASSES[0]))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=["flowers5", "trashnet"])
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    asked = parser.parse_args()
    rows = []
    print("| set | images | workers | decoded every time | first pass | second pass | first / every | second / every |")
    print("|---|---|---|---|---|---|---|---|")
    for name in asked.sets:
        split = folder(root=str(asked.data / name)).splits["train"]
        chosen = np.random.default_rng(0).permutation(len(split))[: asked.images]
        split = split.take(np.sort(chosen))
        for workers in asked.workers:
            figures = measure(split, workers, asked.rounds)
            every, first, second = (figures[each] for each in PASSES)
            ratios = [
                statistics.median(kept / plain for kept, plain in zip(each, every, strict=True))
                for each in (first, second)
            ]
            rows.append(
                {
                    "set": name,
                    "images": len(split),
                    "workers": workers,
                    "images_per_second": figures,
                    "ratios": dict(zip(PASSES[1:], ratios, strict=True)),
                    "load": os.getloadavg()[0],
                    "cores": os.cpu_count(),
                }
            )
            middle = " | ".join(f"{statistics.median(each):,.0f}" for each in (every, first, second))
            print(f"| {name} | {len(split)} | {workers} | {middle} | {ratios[0]:.2f} | {ratios[1]:.1f} |", flush=True)
            asked.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
