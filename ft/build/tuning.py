"""``trainer.autotune``: chooses how the run computes, before anything depends on it, and writes it into its config."""

import os
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ft.data.module import DataModule
from ft.machine.choice import Choice, choice_from_config, for_batch
from ft.machine.tune import Job, Wishes, autotune

# Enough for a median; a second at most where images are large.
IMAGES_READ = 12


def tuned(config: dict[str, Any], model: nn.Module, loaders: DataModule, *, whole_model_steps: int) -> Choice | None:
    """The run's choice; a new one is written into ``config["trainer"]["tuned"]``.

    Sets the loaders' batch size and workers, and the compute threads of this process, for training. Other threads and
    workers for other passes are in the choice.

    Args:
        config: The whole config.
        model: As it will be trained; the same afterwards, bit for bit.
        loaders: Of its images.
        whole_model_steps: Batches that will go through the whole model, backwards too, as far as it is known.

    Returns:
        ``None`` with ``trainer.autotune=false``, and where nothing can be measured: then all is as the config says.
    """
    trainer = config["trainer"]
    batch_size, accumulate = config["data"]["batch_size"], trainer["accumulate_grad_batches"]
    choice = choice_from_config(config)
    if choice is not None:
        # Either may have been changed for a resumed run.
        choice = for_batch(choice, batch_size, accumulate)
    elif trainer.get("autotune") and is_one_process(trainer) and (device := device_of(trainer["accelerator"])):
        choice = autotune(
            model,
            getattr(model, "input_spec"),  # noqa: B009 - not nn.Module's
            device=device,
            job=Job(
                batch_size=batch_size,
                accumulate=accumulate,
                decode=seconds_to_read(loaders),
                num_images=len(loaders.splits["train"].targets),
                whole_model_steps=whole_model_steps,
                only_fp32="a full-batch optimizer" if config["optimizer"]["full_batch"] else "",
            ),
            wishes=wishes(config),
        )
    if choice is None:
        return None
    trainer["tuned"] = choice.as_dict()
    loaders.options = replace(loaders.options, batch_size=choice.micro_batch)
    if config["data"]["num_workers"] == "auto":
        loaders.num_workers = choice.train_workers
    torch.set_num_threads(choice.train_threads)
    if choice.compile:
        model.compile()  # in place: names in checkpoints stay
    return choice


def wishes(config: dict[str, Any]) -> Wishes:
    """What the user has said."""
    precision, workers = config["trainer"]["precision"], config["data"]["num_workers"]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return Wishes(
        precision=None if precision == "auto" else str(precision),
        workers=None if workers == "auto" else int(workers),
        threads=int(threads) if threads.isdecimal() else None,
    )


def device_of(accelerator: str) -> torch.device | None:
    """What Lightning will use; ``None`` for kinds that no rule of ``ft.machine`` was measured on."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        return torch.device("cpu")
    return None


def is_one_process(trainer: dict[str, Any]) -> bool:
    """Several would each measure while the others do, and choose differently."""
    alone = trainer["devices"] in (1, "1") and trainer["strategy"] == "auto"
    return alone and int(os.environ.get("WORLD_SIZE", "1")) == 1


def seconds_to_read(loaders: DataModule) -> float:
    """Median seconds to read, decode and transform a training image in one process; 0 where all of them are kept."""
    dataset = loaders.view_loader("train", 0, loaders.train_transform).dataset
    if dataset.needs_no_decoding():
        return 0.0
    size = len(dataset)
    taken = []
    for at in range(min(IMAGES_READ, size)):
        start = time.perf_counter()
        dataset[0, at * size // IMAGES_READ if size > IMAGES_READ else at]
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
