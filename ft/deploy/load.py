"""From an exported folder to a predictor: what prediction and serving take besides a run."""

from importlib import import_module
from pathlib import Path

from ft.deploy.folder import NAME, Description
from ft.deploy.quiet import quiet
from ft.errors import one_of
from ft.inference.pixels import DTYPES
from ft.inference.predictor import Predictor

# One module a format, with ``write(folder, model, description, outputs)`` and
# ``load(folder, description, device=, precision=) -> Network``; imported when it is needed, for each has its own extra.
MODULES = {"timm": "ft.deploy.timm_folder", "onnx": "ft.deploy.onnx_file", "pt2": "ft.deploy.pt2_file"}


def is_exported(path: Path) -> bool:
    """Whether ``python -m ft.export`` made this folder."""
    return (path / NAME).is_file()


def load_exported(path: Path, *, device: str = "cpu", precision: str = "fp32") -> Predictor:
    """An exported model, ready to look at images.

    Args:
        path: The folder.
        device: ``auto``, ``cpu``, ``cuda`` or another that the format's runtime knows.
        precision: ``fp32``, or ``bf16`` (not for ONNX).

    Raises:
        UserError: The folder is damaged or of another version, the format's package is not installed, or it cannot
            compute on this device or in this precision.
    """
    one_of(precision, DTYPES, "precision")
    found = Description.load(path)
    with quiet():
        network = import_module(MODULES[found.format]).load(path, found, device=device, precision=precision)
    return Predictor(
        spec=found.spec,
        reading=found.reading,
        run=network.run,
        embed=network.embed,
        model=network.model,
        origin=str(path),
        card=found.card,
    )
