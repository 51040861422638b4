"""Writing a checkpoint folder: beside its place first, then moved there whole (see ``generations``).

What cannot be written leaves everything as it was, and nothing behind.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils._pytree import tree_leaves

from ft.checkpoint.generations import put, to_disk
from ft.checkpoint.manifest import MANIFEST, STATE, WEIGHTS, describe, hash_of, rendered, sealed
from ft.checkpoint.not_written import writing

PACKAGES = ("torch", "timm", "lightning", "safetensors")


def save(
    checkpoint: dict[str, Any], target: Path, *, config: Mapping[str, Any] | None = None, parent: str | None = None
) -> dict[str, Any]:
    """Writes Lightning's checkpoint dictionary as a folder; one that is already there is replaced as a whole.

    Args:
        checkpoint: With ``state_dict`` and everything else that Lightning and the callbacks put there.
        target: The folder.
        config: Of the run.
        parent: The ``sha256`` of the manifest of the checkpoint that training went on from.

    Returns:
        The manifest.

    Raises:
        NotWritten: What was there before is still there.
    """
    needed = sum(leaf.nbytes for leaf in tree_leaves(checkpoint) if isinstance(leaf, torch.Tensor))
    with writing(target, needed), _fresh(target) as fresh:
        rest = {key: value for key, value in checkpoint.items() if key != "state_dict"}
        save_file(_without_sharing(checkpoint["state_dict"]), fresh / WEIGHTS)
        # Its own way to a path does not tell why it failed.
        with (fresh / STATE).open("wb") as file:
            torch.save(rest, file)
        manifest = sealed(
            {
                "format": 2,
                "files": {name: describe(fresh / name) for name in (WEIGHTS, STATE)},
                "epoch": checkpoint.get("epoch"),
                "global_step": checkpoint.get("global_step"),
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": versions(),
                "config": None if config is None else hash_of(config),
                "parent": parent,
            }
        )
        (fresh / MANIFEST).write_bytes(rendered(manifest))
        for name in (WEIGHTS, STATE, MANIFEST, "."):
            to_disk(fresh / name)
        put(fresh, target)
    return manifest


def link(source: Path, target: Path) -> None:
    """The same checkpoint under another name: its files on disk once, where the file system can.

    A checkpoint is replaced as a whole and never written into, so that neither name ever sees the other change.

    Args:
        source: A checkpoint.
        target: The folder; one that is already there is replaced.

    Raises:
        NotWritten: What was there before is still there.
    """
    needed = sum(file.stat().st_size for file in source.iterdir())
    with writing(target, needed), _fresh(target) as fresh:
        for file in sorted(source.iterdir()):
            try:
                os.link(file, fresh / file.name)
            except OSError:
                shutil.copy2(file, fresh / file.name)
                to_disk(fresh / file.name)
        to_disk(fresh)
        put(fresh, target)


@cache
def versions() -> dict[str, str]:
    """Of the packages that a checkpoint depends on; looked up once, at some milliseconds each."""
    return {package: version(package) for package in PACKAGES}


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """An empty folder beside its target, gone again where the body fails."""
    fresh = target.with_name(f".{target.name}.new")
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        to_disk(target.parent.parent)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _without_sharing(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """safetensors refuses tensors that share memory, such as tied weights: every one gets its own."""
    seen: set[int] = set()
    single: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        where = tensor.untyped_storage().data_ptr()
        single[name] = tensor.clone(memory_format=torch.contiguous_format) if where in seen else tensor.contiguous()
        seen.add(where)
    return single
