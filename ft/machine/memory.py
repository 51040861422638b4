"""What was measured is kept in the cache folder, with what it depends on: ``machine/<key>/about.json``."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from timm.layers import DropPath
from torch import nn

from ft.cache.folder import make, place, read_about, touch, write_about
from ft.machine.allocator import keep_freed_memory
from ft.machine.system import processor_name
from ft.machine.timings import Timings
from ft.processors import processors

FORMAT = 1
# What was measured while others used the machine is not believed for longer: the jobs of a sweep agree, and later runs
# measure anew.
BUSY_SECONDS = 600.0


def machine_facts(device: torch.device, available: int) -> dict[str, Any]:
    """What timings depend on, besides the model. No host name: the same cache may serve many alike machines."""
    return {
        "format": FORMAT,
        "processor": processor_name(),
        "processors": processors(),
        "threads": available,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.system(),
        "versions": {package: version(package) for package in ("torch", "timm")},
        # Threads that wait for each other by spinning compute otherwise than those that sleep.
        "waiting": [os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")],
        "keeps freed memory": bool(keep_freed_memory.cache_info().currsize),
    }


def fingerprint(model: nn.Module) -> str:
    """Of what a model computes, not of its weights: kinds of layers, shapes, what trains.

    Rates of dropout are left out: they change no time, and the runs of a sweep often differ in them alone.
    """
    content = [
        [(name, type(module).__name__, _settings(module)) for name, module in model.named_modules()],
        [(name, list(tensor.shape), tensor.requires_grad) for name, tensor in model.named_parameters()],
    ]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _settings(module: nn.Module) -> str:
    drops = isinstance(module, nn.modules.dropout._DropoutNd | DropPath)
    return "" if drops else module.extra_repr()


def recall(facts: Mapping[str, Any]) -> Timings | None:
    """What was measured under the same facts; ``None`` if it was not, or is damaged, or has become doubtful."""
    folder = _folder(facts)
    about = read_about(folder)
    try:
        kept = about["timings"]
        sound = about["facts"] == _plain(facts)
        # A clock that was set back in between says nothing.
        doubtful = about["busy"] and not 0 <= time.time() - about["measured"] <= BUSY_SECONDS
        timings = Timings.from_dict(kept)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    if not sound or doubtful:
        return None
    touch(folder)
    return timings


def remember(facts: Mapping[str, Any], timings: Timings, *, busy: bool) -> None:
    """Keeps what was measured; where the cache cannot be written to, the next run measures again."""
    kept = _plain(timings.as_dict())
    about = {
        "facts": _plain(facts),
        "timings": kept,
        "busy": busy,
        "measured": time.time(),
    }
    with suppress(OSError):
        write_about(make(_folder(facts)), about)


def _folder(facts: Mapping[str, Any]) -> Path:
    return place("machine", _hash(facts)[:32])


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(content: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(content))
