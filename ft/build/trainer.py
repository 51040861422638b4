"""Lightning's Trainer: device and precision as the machine allows, our checkpoints, the loggers and progress."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ft.checkpoint.fsdp import Fsdp
from ft.checkpoint.keep import ON_ERROR, KeepCheckpoints
from ft.checkpoint.lightning_io import FolderCheckpointIO
from ft.errors import UserError, did_you_mean, one_of
from ft.faults.guard import Guard, OnNan
from ft.faults.rollback import FirstCheckpoint
from ft.instantiate import instantiate
from ft.machine.choice import Choice, choice_from_config
from ft.plugin import Plugin
from ft.run_folder import RunFolder
from ft.show.metrics_csv import MetricsCsv
from ft.show.progress import Clock, PlainProgress, TerminalProgress
from ft.tasks.task import Task

# Keys of the trainer's config that are ours; the others are Lightning's. ``tuned`` is in the config of a run that was.
OWN_KEYS = ("autotune", "tuned", "micro_batch")

# Lightning logger -> extra that brings what it needs
EXTRAS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


def build_trainer(
    config: dict[str, Any], folder: RunFolder, task: Task, plugins: list[Plugin], first: list[Callback]
) -> tuple[Trainer, MetricsCsv, KeepCheckpoints]:
    """The trainer with everything that listens to it.

    Args:
        config: The whole config.
        folder: Of the run.
        task: Says what decides.
        plugins: In their order.
        first: What listens before them.

    Raises:
        UserError: A device that is absent, a value Lightning refuses, a logger whose extra is missing.
    """
    settings = {key: value for key, value in config["trainer"].items() if key not in OWN_KEYS}
    choice = choice_from_config(config)
    if settings["precision"] == "auto":
        settings["precision"] = (
            automatic_precision(settings["accelerator"]) if choice is None else choice.train_precision
        )
    if choice is not None and not config["optimizer"]["full_batch"]:
        settings.update(in_micro_batches(settings, choice, config["data"]["batch_size"]))
    # At the end the best checkpoint's predictions of the validation images are kept: as many as were validated.
    settings.setdefault("limit_predict_batches", settings["limit_val_batches"])
    if settings["strategy"] == "ddp":
        # A constructor flag: it cannot be changed when a plugin freezes a stage later on.
        frozen = config["recipe"]["name"] != "full" or config["model"]["open"] != "all" or bool(plugins)
        settings["strategy"] = DDPStrategy(find_unused_parameters=frozen)
    elif settings["strategy"] == "fsdp":
        # The parts of a weight are put together in place, which tensors of inference mode do not allow afterwards.
        settings.update(strategy=Fsdp(), inference_mode=False)
    if config["optimizer"]["full_batch"] and str(settings["precision"]).startswith("16"):
        # Checked here: on a CPU Lightning would turn it into bf16 with a warning.
        raise UserError(
            f"trainer.precision={settings['precision']} needs a gradient scaler, which does not go with "
            f"optimizer={config['choices'].get('optimizer')}: half precision is only for mini-batches. Set 32-true."
        )
    metrics = MetricsCsv(folder.path / "metrics.csv")
    on_error = config["checkpoint"]["on_error"]
    one_of(on_error, ON_ERROR, "checkpoint.on_error")
    checkpoints = KeepCheckpoints(folder.checkpoints, metric=task.metric, mode=task.mode, on_error=on_error)
    checkpoints.before_last = metrics.write_epoch
    guard = Guard(OnNan(config["on_nan"], **config["on_nan_limits"]))
    if config["optimizer"]["full_batch"] and guard.rules.answer != "stop":
        raise UserError(
            f"on_nan={guard.rules.answer} needs a mini-batch optimizer: set on_nan=stop, or optimizer=adamw."
        )
    going_back = [FirstCheckpoint(folder.last)] if guard.rules.answer == "rollback" else []
    bar = TerminalProgress() if sys.stdout.isatty() else PlainProgress()
    try:
        trainer = Trainer(
            **settings,
            callbacks=[guard, *first, *plugins, Clock(), bar, checkpoints, *going_back],
            logger=[metrics, *build_loggers(config["logger"], folder)],
            plugins=[FolderCheckpointIO(config)],
            default_root_dir=folder.path,  # where plugins write
            use_distributed_sampler=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"trainer: {_first_line(error)}.{_hint(error, settings)}") from error
    return trainer, metrics, checkpoints


@contextmanager
def lightning_refusals() -> Iterator[None]:
    """What Lightning only finds out when it starts, such as a limit of less than one batch, as a user's mistake."""
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"trainer: {_first_line(error)}.") from error


def build_loggers(config: dict[str, Any], folder: RunFolder) -> list[Logger]:
    """Loggers besides the CSV file, which is always written.

    Raises:
        UserError: The package behind one is not installed; the message names the extra.
    """
    loggers = []
    for name, entry in (config or {}).items():
        # Each YAML that wants to write into the run folder says so with this word.
        entry = {key: str(folder.path) if value == "RUN_FOLDER" else value for key, value in entry.items()}
        try:
            loggers.append(instantiate(entry, f"logger.{name}"))
        except ModuleNotFoundError as error:
            extra = EXTRAS.get(name, name)
            raise UserError(
                f"logger={name} needs the extra {extra}: pip install -c constraints.txt -e '.[{extra}]' ({error})."
            ) from None
    return loggers


def in_micro_batches(settings: dict[str, Any], choice: Choice, batch_size: int) -> dict[str, Any]:
    """What counts batches, for batches that go through in pieces.

    Args:
        settings: Of the trainer, in batches of ``batch_size``.
        choice: Says how many pieces a batch is cut into.
        batch_size: ``data.batch_size``.
    """
    pieces = batch_size // choice.micro_batch
    limits = {key: settings[key] for key in ("limit_train_batches", "limit_val_batches", "limit_test_batches")}
    return {
        "accumulate_grad_batches": choice.accumulate,
        # A float is a share, as in Lightning.
        **{key: pieces * limit if isinstance(limit, int) else limit for key, limit in limits.items()},
    }


def automatic_precision(accelerator: str) -> str:
    """``bf16-mixed`` on a GPU that has it, 32 bits elsewhere."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def process_rank() -> int:
    """This process's rank, before Lightning has set anything up."""
    return next((int(os.environ[name]) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), 0)


def lightning_quiet() -> None:
    """Lightning's tips and warnings about what ft has decided on purpose stay out of sight."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning", "timm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        "The '.*_dataloader' does not have many workers",  # images in memory need none
        "The number of training batches .* is smaller than the logging interval",  # everything is logged by epoch
        "Checkpoint directory .* exists and is not empty",  # that of a resumed run
        "You're resuming from a checkpoint that ended before the epoch ended",  # the sampler goes on where it was
        "It is recommended to use .*sync_dist=True",  # metrics agree between processes by themselves
        "You have overridden .* in `LightningModule`",
        "No (positive|negative) samples (in|found in) target",  # a small split lacks a class; its AUROC counts as 0
        "`training_step` returned `None`",  # a batch of which no image could be read
        ".*isinstance.treespec, LeafSpec.* is deprecated",  # Lightning 2.6.6 with torch 2.15
        ".*lr_scheduler.step.* before .*optimizer.step",  # the first LambdaLR factor is set before the first step
    ):
        warnings.filterwarnings("ignore", message=message)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].replace("`", "").rstrip(".")


def _hint(error: Exception, settings: dict[str, Any]) -> str:
    text = str(error)
    if "accelerator" in text or "CUDA" in text or "GPU" in text or "gpu" in text:
        return " Set trainer.accelerator=auto, or trainer=cpu."
    if "unexpected keyword argument" in text:
        given = text.rpartition("'")[0].rpartition("'")[2]
        return did_you_mean(given, [key for key in settings if key != given])
    return ""
