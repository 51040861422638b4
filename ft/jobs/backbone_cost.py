"""What candidates cost: milliseconds an image, measured in turns so that another process's work hits all of them.

round 0 (not counted)   a b c d
round 1 ...             a b c d      the median of the rounds, for each
"""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ft.build.run import MODEL_KEYS
from ft.build.tuning import device_of
from ft.data.transforms import normalize
from ft.instantiate import check_targets, instantiate
from ft.job_folder import FINISHED, JobFolder, Result

# How the time of a candidate is called among the metrics.
MILLISECONDS = "ms_per_image"


def measure_costs(folder: JobFolder, config: Mapping[str, Any], *, started: float) -> None:
    """Writes ``ms_per_image/<candidate>`` of all, each at its own resolution in 32 bits, and how they were measured.

    Args:
        folder: Of a job with the settings ``models`` (the config's section ``model`` of each candidate), ``batch``
            (images that go through at once) and ``rounds``.
        config: Resolved; says on what device.
        started: When the wait for it began, as ``time.monotonic()`` tells it.
    """
    settings = folder.job().settings
    device = device_of(config["trainer"]["accelerator"]) or torch.device("cpu")
    suggested = config["data"]["suggested"]
    models = {name: _built(section, suggested).to(device).eval() for name, section in settings["models"].items()}
    times = milliseconds(models, batch=settings["batch"], rounds=settings["rounds"], device=device)
    metrics = {f"{MILLISECONDS}/{name}": round(each, 3) for name, each in times.items()}
    metrics |= {"threads": torch.get_num_threads(), "batch": settings["batch"]}
    folder.answer(Result(FINISHED, metrics=metrics, seconds=round(time.monotonic() - started, 2)))


@torch.inference_mode()
def milliseconds(models: Mapping[str, Any], *, batch: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Of a forward pass, an image.

    Args:
        models: In eval mode, with an ``input_spec``.
        batch: Images that go through at once.
        rounds: Of which the median counts; one more goes before.
        device: Where the models are.
    """
    images = {name: _images(model, batch, device) for name, model in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 + rounds):
        for name, model in models.items():
            start = _now(device)
            model(images[name])
            taken[name].append(1000 * (_now(device) - start) / batch)
    return {name: statistics.median(each[1:]) for name, each in taken.items()}


def _built(section: Mapping[str, Any], suggested: Mapping[str, Any]) -> Any:
    """The candidate's network, with its weights: the file beside them can change its layers."""
    arguments = {key: value for key, value in section.items() if key not in MODEL_KEYS}
    check_targets({"model": arguments})
    return instantiate(arguments, "model", num_outputs=2, suggested=dict(suggested))


def _images(model: Any, batch: int, device: torch.device) -> Tensor:
    spec = model.input_spec
    pixels = torch.zeros(batch, spec.channels, spec.height, spec.width, dtype=torch.uint8, device=device)
    return normalize(pixels, spec)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
