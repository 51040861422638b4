"""One export: written beside its place, compared with the trained model, described, and then moved there."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from ft.deploy.card import write_card
from ft.deploy.check import Check, compare, in_batches
from ft.deploy.folder import CARD, NORMALIZED, Description
from ft.deploy.load import MODULES, is_exported, load_exported
from ft.deploy.options import Options
from ft.deploy.outputs import outputs_of
from ft.deploy.quiet import quiet
from ft.errors import UserError
from ft.inference.predictor import Predictor

RUNTIMES = {"timm": "timm", "onnx": "onnxruntime", "pt2": "torch"}


@dataclass(frozen=True)
class Images:
    """What exports are compared on.

    Attributes:
        source: For people: a split, or a folder.
        pixels: ``(N, C, H, W)`` ``uint8`` of the run's transform.
        logits: ``(N, K)`` of the trained model, in fp32.
    """

    source: str
    pixels: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    format: str
    path: Path
    check: Check
    size: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.format}: {self.path} ({self.size / 2**20:.1f} MiB, {self.seconds:.1f} s)\n  {self.check}"


def places(formats: Sequence[str], output: str | None, run: Path, *, overwrite: bool) -> dict[str, Path]:
    """Where each format goes; looked at before anything is computed.

    Args:
        formats: Which, from ``Options``.
        output: ``None``: below the run. A single format goes there itself, several into folders of their names.
        run: The run's folder.
        overwrite: Whether an export that is there may be replaced.

    Raises:
        UserError: Something is there already.
    """
    base = run / "export" if output is None else Path(output).expanduser().absolute()
    single = output is not None and len(formats) == 1
    found = {format: base if single else base / format for format in formats}
    for path in found.values():
        empty = path.is_dir() and not any(path.iterdir())
        if not path.exists() or empty or (overwrite and is_exported(path)):
            continue
        if is_exported(path):
            raise UserError(f"output: {path} holds an export already. Set overwrite=true to replace it.")
        raise UserError(f"output: {path} exists and is no export, so it is not replaced. Set output to another place.")
    return found


def look_at(predictor: Predictor, source: str, pixels: Tensor) -> Images:
    """What the trained model says of the images that exports are compared on.

    Args:
        predictor: Of the run, on the CPU and in fp32.
        source: Where the images are from.
        pixels: ``(N, C, H, W)`` ``uint8``.
    """
    return Images(source, pixels, in_batches(predictor.run, pixels))


def write_export(
    predictor: Predictor,
    images: Images,
    format: str,
    path: Path,
    *,
    options: Options,
    card: dict[str, Any],
    address: str | None,
) -> Exported:
    """Exports a run's model in one format.

    Args:
        predictor: Of the run.
        images: What the file is compared on.
        format: ``timm``, ``onnx`` or ``pt2``.
        path: Where it goes; an export that is there is replaced.
        options: How.
        card: Facts for the model card.
        address: The repository on the hub that it will be pushed to, if any.

    Raises:
        UserError: The format cannot hold this model, or the file does not compute what the model computes; nothing is
            left at ``path`` that was not there before.
    """
    started = time.monotonic()
    outputs = outputs_of(predictor.reading, temperature=options.temperature)
    settings = dict(options.settings.get(format, {}))
    preprocess = settings.pop("preprocess", NORMALIZED)
    description = Description(
        format, predictor.spec, outputs.reading, preprocess=preprocess, card=card, settings=settings
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with quiet():
            import_module(MODULES[format]).write(fresh, predictor.model, description, outputs)
        description.save(fresh)
        found = in_batches(load_exported(fresh).run, images.pixels)
        runtime = f"{RUNTIMES[format]} {version(RUNTIMES[format])}"
        check = compare(
            images.logits, found, outputs, tolerance=options.tolerance, source=images.source, runtime=runtime
        )
        if not check.passed:
            raise UserError(
                f"format={format} does not compute what the trained model computes, and was deleted. {check}.\n"
                "If that is near enough for you, raise tolerance."
            )
        description = replace(description, check=check.as_dict())
        description.save(fresh)
        write_card(fresh / CARD, description, address=address)
        size = sum(file.stat().st_size for file in fresh.iterdir())
        _as_usual(fresh)
        _move(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Exported(format, path, check, size, time.monotonic() - started)


def _move(fresh: Path, path: Path) -> None:
    """Puts a folder where another may be; that one goes away last."""
    if not path.exists():
        fresh.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    path.rename(old / "old")
    fresh.rename(path)
    shutil.rmtree(old)


def _as_usual(folder: Path) -> None:
    """Gives a folder and its files the usual rights: tempfile and safetensors let only their owner read."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)
