"""Writing a checkpoint folder: beside its place first, then moved there whole."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ft.checkpoint.manifest import MANIFEST, STATE, WEIGHTS, describe

PACKAGES = ("torch", "timm", "lightning", "safetensors")


def save(checkpoint: dict[str, Any], target: Path) -> None:
    """Writes Lightning's checkpoint dictionary as a folder; one that is already there is replaced as a whole.

    Args:
        checkpoint: With ``state_dict`` and everything else that Lightning and the callbacks put there.
        target: The folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    rest = {key: value for key, value in checkpoint.items() if key != "state_dict"}
    save_file(_without_sharing(checkpoint["state_dict"]), fresh / WEIGHTS)
    torch.save(rest, fresh / STATE)
    manifest = {
        "format": 1,
        "files": {name: describe(fresh / name) for name in (WEIGHTS, STATE)},
        "epoch": checkpoint.get("epoch"),
        "global_step": checkpoint.get("global_step"),
        "versions": {package: version(package) for package in PACKAGES},
    }
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    for name in (WEIGHTS, STATE, MANIFEST, "."):
        _to_disk(fresh / name)
    _into_place(fresh, target)


def link(source: Path, target: Path) -> None:
    """The same checkpoint under another name: its files on disk once, where the file system can.

    A checkpoint is replaced as a whole and never written into, so that neither name ever sees the other change.

    Args:
        source: A checkpoint.
        target: The folder; one that is already there is replaced.
    """
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        shutil.copytree(source, fresh, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.copytree(source, fresh, dirs_exist_ok=True, copy_function=_copy_over)
    _into_place(fresh, target)


def _copy_over(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    shutil.copy2(source, target)
    _to_disk(Path(target))


def _into_place(fresh: Path, target: Path) -> None:
    stale = target.with_name(f".{target.name}.old")
    shutil.rmtree(stale, ignore_errors=True)
    if target.exists():
        target.rename(stale)
    fresh.rename(target)
    _to_disk(target.parent)
    shutil.rmtree(stale, ignore_errors=True)


def _without_sharing(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """safetensors refuses tensors that share memory, such as tied weights: every one gets its own."""
    seen: set[int] = set()
    single: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        where = tensor.untyped_storage().data_ptr()
        single[name] = tensor.clone(memory_format=torch.contiguous_format) if where in seen else tensor.contiguous()
        seen.add(where)
    return single


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
