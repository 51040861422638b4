"""Runs a built run to its end: train, test the best checkpoint, write the summary."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ft.build.run import Run
from ft.build.trainer import lightning_refusals
from ft.checkpoint.generations import recover
from ft.checkpoint.load import load_weights
from ft.checkpoint.manifest import verify
from ft.checkpoint.requeue import requeue, requeue_signal
from ft.errors import RunFailed
from ft.faults.guard import Guard
from ft.faults.processes import PARENT, lost_rank, watch_children
from ft.faults.rollback import train as train_through_rollbacks
from ft.inference.calibrate import calibrated
from ft.inference.predictions import Predictions
from ft.inference.reading import Reading
from ft.quarantine import gather, list_bad_images
from ft.run_folder import ENVIRONMENT, RunFolder
from ft.show.console import closing_table, header, random_weights_warning
from ft.show.progress import Clock


def fit(run: Run, *, started: float) -> float | None:
    """Trains and tests.

    Args:
        run: From ``build``.
        started: When the user's wait began, as ``time.monotonic()`` tells it.

    Returns:
        The task's metric at the best epoch; ``None`` in processes that are not the first, and without validation.

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when the run folder is complete.
    """
    first = run.trainer.is_global_zero
    if first:
        header(run)
    checkpoint = None
    if run.resumed:
        checkpoint = recover(run.folder.checkpoints / "last", repair=first)
        run.metrics.forget_from(verify(checkpoint)["epoch"] + 1)
    try:
        with run.interrupt.listening():
            train(run, checkpoint)
            tested = predict_splits(run) if run.config["test"] and run.folder.best.is_dir() else {}
    except KeyboardInterrupt:
        if first:
            finish(run, "interrupted", {}, started)
            if run.interrupt.number in requeue_signal():
                requeue()
        raise
    except RunFailed:
        if first:
            finish(run, "failed", {}, started)
        raise
    gather(run.data.bad_images)
    return finish(run, "finished", tested, started) if first else None


def train(run: Run, checkpoint: Path | None) -> None:
    """Trains to the end.

    Args:
        run: From ``build``.
        checkpoint: To go on from.

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM.
    """
    os.environ[ENVIRONMENT] = str(run.folder.path)
    watch_children()
    try:
        with lightning_refusals():
            train_through_rollbacks(
                lambda start: run.trainer.fit(run.module, run.loaders, ckpt_path=start),
                checkpoint,
                last=run.folder.last,
                guard=Guard.of(run.trainer),
                undo=lambda: undo(run),
            )
    except Exception as error:
        if lost := lost_rank(error):
            raise RunFailed(lost) from error
        raise
    finally:
        os.environ.pop(ENVIRONMENT, None)
        os.environ.pop(PARENT, None)
    if not run.interrupt.ended:
        end_again(run)
    run.interrupt.stop_if_asked(run.trainer)
    # Under torchrun every process has made up its own name; the first one's is the run's.
    run.folder = RunFolder(Path(run.trainer.strategy.broadcast(str(run.folder.path))))


def undo(run: Run) -> Path:
    """Forgets what a run that goes back has seen since its last checkpoint, and is not restored from there.

    Returns:
        That checkpoint: the newest that is whole.

    Raises:
        UserError: None is.
    """
    checkpoint = recover(run.folder.last, repair=run.trainer.is_global_zero)
    run.metrics.forget_from(verify(checkpoint)["epoch"] + 1)
    run.trainer.should_stop = False
    for metrics in run.module.metrics.values():
        metrics.reset()
    return checkpoint


def end_again(run: Run) -> None:
    """Has the plugins do what they do at the end, of a run that was stopped between its last epoch and that."""
    if run.loaders.splits.keys() >= {"val"}:
        run.trainer.fit_loop.epoch_loop.val_loop.setup_data()  # Lightning has left it out, with the rest
    for plugin in run.module.plugins:
        plugin.on_train_end(run.trainer, run.module)


def predict_splits(run: Run) -> dict[str, Any]:
    """Tests the best checkpoint, and keeps what it says of the validation and the test images.

    Returns:
        The metrics of the test split; empty where there is none.
    """
    load_weights(run.folder.best, run.module)
    tested: dict[str, Any] = {}
    reading = Reading.of_task(run.module.task)
    found: list[Predictions | None] = []
    if "val" in run.data.splits:
        run.trainer.predict(run.module, run.loaders.evaluation_loader("val"), return_predictions=False)
        found.append(run.module.collector.predictions("val", reading, run.data.splits["val"].names))
        if found[0] is not None:
            reading = calibrated(reading, found[0].logits, found[0].targets)
    if "test" in run.data.splits:
        tested = dict(run.trainer.test(run.module, run.loaders, verbose=False)[0])
        found.append(run.module.collector.predictions("test", reading, run.data.splits["test"].names))
    if run.trainer.is_global_zero:
        run.folder.write_json(run.folder.reading.name, reading.as_dict())
        for predictions in found:
            if predictions is not None:
                replace(predictions, reading=reading).save(run.folder.path)
    return tested


def finish(run: Run, status: str, tested: dict[str, Any], started: float) -> float | None:
    """Writes ``summary.json`` and ``metrics.csv``, and shows the closing table."""
    run.metrics.save()
    best = run.checkpoints.best_epoch
    row = run.checkpoints.best_values
    clock = next(callback for callback in run.trainer.callbacks if isinstance(callback, Clock))  # pyright: ignore
    summary = {
        "status": status,
        "best_epoch": best,
        "epochs": run.trainer.current_epoch,
        **{name: value for name, value in row.items() if name.startswith(("train/", "val/"))},
        **{name: float(value) for name, value in tested.items()},
        "seconds": round(time.monotonic() - started, 2),
        "images_per_second": round(clock.images_per_second, 2),
        "weights": run.config["model"].get("found", "the model's own"),
        "bad_images": len(list_bad_images(run.folder, run.data.bad_images)),
        "seed": run.config["seed"],
        **Guard.of(run.trainer).summary(),
    }
    run.folder.write_json("summary.json", summary)
    closing_table(run, summary)
    random_weights_warning(run)
    return row.get(run.module.task.metric)
