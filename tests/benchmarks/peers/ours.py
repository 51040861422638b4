"""``python -m ft.train data=folder data.root=... model=... model.weights_dir=... seed=...`` and nothing else.

The same command, through the same verb, with every cache empty; where only accuracies count, those of ``FT_CACHE_DIR``
are used, if it is set. Whatever is offered as a checkpoint is remembered with the moment it was offered at; test is
scored when the run has ended.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.common import Cell, copied

MODELS = {"tf_efficientnet_lite0": "efficientnet_lite", "mobilenetv2_100": "mobilenet"}


def run(cell: Cell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        if not (cell.accuracy_only and os.environ.get("FT_CACHE_DIR")):
            os.environ["FT_CACHE_DIR"] = str(Path(folder) / "cache")
            Path(os.environ["FT_CACHE_DIR"]).mkdir()
        overrides = [
            "data=folder", f"data.root='{Path(cell.data) / cell.set}'", f"model={MODELS[cell.model]}",
            f"model.weights_dir='{cell.weights_dir}'", f"seed={cell.seed}", *cell.overrides,
        ]  # fmt: skip
        if cell.max_steps:
            overrides.append(f"trainer.limit_train_batches={cell.max_steps}")
        sys.argv = ["ft.train", *overrides, f"runs_dir='{folder}/runs'"]
        result: dict[str, Any] = {}
        _train(cell, result)
        return {"config": {"overrides": overrides}, **result}


def _train(cell: Cell, result: dict[str, Any]) -> None:
    """What ``ft.train`` does, watched."""
    from ft.command.verb import run_verb

    def watched(config: Any) -> None:
        from ft.build.run import build
        from ft.fit import fit

        run = build(config)
        offer = run.checkpoints.offer
        epochs: list[dict[str, Any]] = []
        states: list[dict[str, Any]] = []

        def remember(trainer: Any, values: dict[str, float], *, epoch: int) -> bool:
            kept = offer(trainer, values, epoch=epoch)
            metric = run.checkpoints.metric
            if metric in values:
                record = {"epoch": epoch, "seconds": round(cell.seconds, 2), "val": values[metric], "kept": kept}
                record["val_loss"] = values.get("val/loss")
                epochs.append(record)
                states.append(copied(run.module.model))
                print(json.dumps(record), flush=True)
            return kept

        run.checkpoints.offer = remember
        fit(run, started=cell.started)
        result["ended"] = round(cell.seconds, 2)
        summary = json.loads((run.folder.path / "summary.json").read_text(encoding="utf-8"))
        result["summary"] = {key: summary.get(key) for key in ("test/acc", "best_epoch", "seconds")}
        result["seconds_per_image"] = 1 / summary["images_per_second"] if summary["images_per_second"] else None
        for record, state in zip(epochs, states, strict=True):
            run.module.model.load_state_dict(state)
            record["test"] = _test_accuracy(run)
        result["epochs"] = epochs

    run_verb(watched, "train")


def _test_accuracy(run: Any) -> float:
    import torch

    from ft.data.transforms import normalize

    model, right, total = run.module.model.eval(), 0, 0
    with torch.inference_mode():
        for batch in run.loaders.evaluation_loader("test"):
            logits = model(normalize(batch.images, model.input_spec))
            right += int((logits.argmax(1) == batch.targets).sum())
            total += len(batch.targets)
    return right / total
