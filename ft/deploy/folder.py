"""Beside an exported model lies ``ft.json``: what it is, how to see and to read with it, and whether it is whole.

EXPORT/   ft.json  README.md  and  config.json model.safetensors | model.onnx | model.pt2
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ft.errors import UserError
from ft.inference.reading import Reading
from ft.input_spec import InputSpec
from ft.plain_files import is_plain_name
from ft.run_folder import write_whole

NAME, CARD = "ft.json", "README.md"
VERSION = 1
# format -> files without which it cannot be loaded
FILES = {
    "timm": ("config.json", "model.safetensors"),
    "onnx": ("model.onnx",),
    "pt2": ("model.pt2",),
}
NORMALIZED, UINT8 = "normalized", "uint8"


@dataclass(frozen=True)
class Description:
    """An exported model, in plain facts.

    Attributes:
        format: ``timm``, ``onnx`` or ``pt2``.
        spec: Preprocessing, up to the crop and with mean and std.
        reading: What the outputs mean.
        preprocess: What the file takes, ``(B, C, H, W)``: ``normalized`` floats, or the crop as ``uint8``.
        card: Where it is from: backbone, origin of the weights, data, run, metrics.
        check: How it compared to the trained model.
        settings: Facts of the format, such as the opset.
    """

    format: str
    spec: InputSpec
    reading: Reading
    preprocess: str = NORMALIZED
    card: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes ``ft.json``, with digests of the files that are there by now."""
        files = {file.name: _digest(file) for file in sorted(folder.iterdir()) if file.name not in (NAME, CARD)}
        content = {"version": VERSION, **asdict(self), "reading": self.reading.as_dict(), "files": files}
        write_whole(folder / NAME, json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Description":
        """Reads what ``save`` wrote, and checks every file against its digest.

        Raises:
            UserError: It is of another version or format, or damaged.
        """
        again = "Export it again: python -m ft.export run=RUN overwrite=true"
        try:
            content = json.loads((folder / NAME).read_text(encoding="utf-8"))
            version = content.pop("version")
            if version != VERSION:
                raise UserError(f"{folder} was exported as version {version}, and this is version {VERSION}. {again}")
            if content["format"] not in FILES:
                raise UserError(f"{folder} is of format {content['format']}; known are {', '.join(FILES)}. {again}")
            digests = content.pop("files")
            spec: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in content["spec"].items()
            }
            read = {**content, "spec": InputSpec(**spec), "reading": Reading.from_dict(content["reading"])}
            found = cls(**read)
            # Also those that the format may have besides, such as the weights of a large ONNX model.
            names = {*FILES[found.format], *digests}
            if outside := [name for name in names if not is_plain_name(name)]:
                raise ValueError(f"{outside[0]!r} is no file of this folder")
            wrong = [name for name in sorted(names) if _digest(folder / name) != digests[name]]
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"{folder} is damaged: {Path(error.filename).name} is missing. {again}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{folder}/{NAME} is damaged: {type(error).__name__}: {error}. {again}") from None
        if wrong:
            raise UserError(f"{folder} is damaged: {wrong[0]} is not the file that was exported. {again}")
        return found


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
