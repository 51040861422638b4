"""How long a report of 1,000 test images of 224 pixels takes, and its size: python -m tests.benchmarks.report_time.

The data set and the run are made on the spot (20 classes of noise around a colour, JPEG files, an untrained network):
what a report costs depends on neither. Predictions are stored already, as they are after every training. Takes about
two minutes, of which the report is the last few seconds; the result is also written as JSON.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
# The bars of the report's issue.
MOST_SECONDS, MOST_BYTES = 10.0, 5 * 2**20


def main() -> None:
    """Makes the run, reports on it in a process of its own, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--output", type=Path, default=Path("report_time.json"))
    wishes = parser.parse_args()
    print(f"{wishes.images} test images, {wishes.classes} classes, {wishes.model}: about two minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="report_time.") as place:
        folder = Path(place)
        _images(folder / "data", wishes.images, wishes.classes)
        _run(
            "ft.train", "data=folder", f"data.root={folder / 'data'}", f"runs_dir={folder / 'runs'}", "report=false",
            f"model.name={wishes.model}", "model.weights=none", "trainer.max_epochs=1", "trainer.limit_train_batches=4",
            "trainer.autotune=false", "data.decoded=off",
        )  # fmt: skip
        run = (folder / "runs" / "last").resolve()
        assert len((run / "predictions" / "test.csv").read_text().splitlines()) == wishes.images + 1
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        _run("ft.report", f"run={run}")
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        result = {
            "images": wishes.images,
            "classes": wishes.classes,
            "model": wishes.model,
            "seconds": round(seconds, 2),
            "processor_seconds": round(sum(after[:2]) - sum(before[:2]), 2),
            "page_bytes": (run / "report.html").stat().st_size,
            "plots_bytes": sum(file.stat().st_size for file in (run / "plots").iterdir()),
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
    result["within"] = result["seconds"] < MOST_SECONDS and result["page_bytes"] < MOST_BYTES
    wishes.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _images(root: Path, num_test: int, num_classes: int) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 8 * num_classes), ("val", 4 * num_classes), ("test", num_test)):
        for number in range(count):
            folder = root / split / f"class {number % num_classes:02}"
            folder.mkdir(parents=True, exist_ok=True)
            colour = generator.integers(0, 255, 3)
            noise = generator.integers(-40, 40, (28, 28, 3))
            pixels = (colour + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")


def _run(verb: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", verb, *words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
