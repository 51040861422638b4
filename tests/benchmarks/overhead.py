"""What a training step costs beside its arithmetic: ours, inside Lightning, over a loop written by hand.

    python -m tests.benchmarks.overhead OUT [--epochs 30] [--batch-size 64] [overrides ...]

The default model trains on stored activations of made-up images: its head alone, and its last stage with the head. Each
epoch is trained by Lightning, and then once more by hand on batches gathered from the same store: forward, loss,
backward, AdamW. Milliseconds are those from the end of one step to the end of the next, the first of an epoch left out;
medians, and the median of the ratios of the epochs. On one thread, whose processor time counts, unless
OMP_NUM_THREADS says otherwise. About a minute for each of the two on a quiet core, half of it for the pass that
computes the activations.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from tests.benchmarks.quiet import others_share
from tests.conftest import composed  # sets one thread, before torch is imported

CASES = {"head": 1, "last stage and head": 2}
IMAGES = 1000


def clock() -> float:
    """Seconds of this thread alone, which other processes do not lengthen, where it is the only one that computes."""
    return time.thread_time() if torch.get_num_threads() == 1 and not torch.cuda.is_available() else time.perf_counter()


class Alternating(Callback):
    """Times the steps of every epoch, and those of a loop by hand after it."""

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.by_hand: list[float] = []
        self._ends: list[float] = []
        self._keys: list[Any] = []
        self._optimizer: torch.optim.Optimizer | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._ends = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._ends.append(clock())
        if trainer.is_last_batch:
            self.ours.append(_a_step(self._ends))
            self.by_hand.append(self._walk(trainer, pl_module))

    def _walk(self, trainer: Any, module: Any) -> float:
        source = trainer.datamodule.instead("train")
        assert source is not None, module.cache.why_not
        # The sampler would go on where the epoch ended; the size of a batch is all that matters here.
        size, count = trainer.datamodule.options.batch_size, len(trainer.datamodule.splits["train"].targets)
        order = torch.randperm(count).tolist()
        batches = [[(0, at) for at in order[start : start + size]] for start in range(0, count - size + 1, size)]
        suffix, loss_of = module.cache.suffix, module.task.loss
        weights = [parameter for parameter in module.model.parameters() if parameter.requires_grad]
        self._optimizer = self._optimizer or torch.optim.AdamW(weights, lr=1e-6, weight_decay=0.05)
        bf16, ends = "bf16" in str(trainer.precision), []
        for keys in batches:
            batch = source.batch(keys)
            with torch.autocast(module.device.type, torch.bfloat16, enabled=bf16):
                loss = loss_of(suffix(batch.images.float()), batch.targets)
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
            ends.append(clock())
        return _a_step(ends)


def _a_step(ends: list[float]) -> float:
    return statistics.median(after - before for before, after in pairwise(ends))


def measure(open_stages: int, epochs: int, batch_size: int, overrides: list[str], folder: str) -> dict[str, Any]:
    from ft.build.run import build
    from ft.fit import fit

    def built(*settings: str) -> Any:
        with composed(*settings) as config:
            return build(config)

    common = [
        f"runs_dir={folder}/runs",
        "recipe=full",
        "data=synthetic",
        f"data.num_images={IMAGES}",
        f"data.batch_size={batch_size}",
        "data.suggested.img_size=224",
        f"trainer.max_epochs={epochs}",
        f"trainer.check_val_every_n_epoch={10 * epochs}",
        "test=false",
        "schedule=constant",
        *overrides,
    ]
    names = built(*common).module.stage_names
    run = built(*common, f"model.open=[{','.join(names[-open_stages:])}]")
    watch = Alternating()
    run.trainer.callbacks.append(watch)  # pyright: ignore[reportAttributeAccessIssue]
    fit(run, started=time.monotonic())
    # The first epochs prepare kernels.
    ours, by_hand = watch.ours[2:], watch.by_hand[2:]
    return {
        "open": ", ".join(names[-open_stages:]),
        "batch": batch_size,
        "precision": str(run.trainer.precision),
        "threads": torch.get_num_threads(),
        "epochs": len(ours),
        "ours ms": round(1000 * statistics.median(ours), 3),
        "by hand ms": round(1000 * statistics.median(by_hand), 3),
        "ratio": round(statistics.median(a / b for a, b in zip(ours, by_hand, strict=True)), 3),
        "ms a step": round(1000 * statistics.median(a - b for a, b in zip(ours, by_hand, strict=True)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    asked = parser.parse_args()
    print(f"{len(CASES)} cases, about a minute each", flush=True)
    busy = others_share(seconds=1.0)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {"case": case, **measure(stages, asked.epochs, asked.batch_size, asked.overrides, folder)}
            for case, stages in CASES.items()
        ]
    asked.out.write_text(json.dumps({"others before": round(busy, 2), "rows": rows}, indent=1), encoding="utf-8")
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
