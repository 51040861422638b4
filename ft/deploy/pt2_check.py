"""Whether a ``.pt2`` file is a graph and its weights, and nothing else; asked before ``torch.export.load`` reads it.

torch says of its own reader: never load data from an untrusted source. It unpickles weights, constants and sample
inputs that ask for it, loads compiled libraries, evaluates the text of shapes, looks up whatever an operator is called,
and writes names of nodes into the Python code that it runs. What ``torch.export.save`` wrote of one of our models needs
none of that, so a file that asks for it is refused.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

FILES = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(serialization_id|version)|\.format_version|\.storage_alignment"
    r"|models/model\.json|data/(weights|constants)/(weight_\d+|tensor_\d+|model_(weights|constants)_config\.json)"
    r"|data/sample_inputs/model\.pt|extra/[\w.-]+"
)
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
ARITHMETIC = "add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|getitem"
OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!\w*from_file|\w*save)(?!\w*__)\w+\.(?!\w*__)\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
    rf"|torch\.sym_[a-z]+|_operator\.({ARITHMETIC})|math\.(ceil|floor|trunc|sqrt|pow)"
)
VERSION = re.compile(r"[\w.+-]*", re.ASCII)
NAME = re.compile(r"[\w.]*", re.ASCII)
# Such as bilinear, or the equation of an einsum; they are quoted in the code.
TEXT = re.compile(r"[\w.,>/ -]*", re.ASCII)
SYMBOL = r"Symbol\('\w{1,20}'(?:, (?:positive|nonnegative|integer|real)=True){0,4}\)"
SHAPE = re.compile(
    rf"(?:{SYMBOL}|[\s+\-*/%(),<>=!&|~]|\d++(?:\.\d++)?+|\b(?:[a-z]{{1,3}}\d++|[A-Z][A-Za-z]{{1,20}}|oo|int_oo)\b)*+",
    re.ASCII,
)
TREE = re.compile(r'"type": (?!null|"builtins\.(tuple|list|dict)")')


def check_pt2(file: Path) -> None:
    """Reads the file's list, its graph and its sample inputs, with the parser that will load it.

    Raises:
        ValueError: Names what it holds besides a graph and weights.
        RuntimeError: It is no such file.
    """
    with zipfile.ZipFile(file) as archive:
        # torch's reader of older files would be next, and takes everything from the top.
        if outside := [name for name in archive.namelist() if "/" not in name]:
            raise ValueError(f"it holds {outside[0]!r} beside its folder")
    reader = torch._C.PyTorchFileReader(str(file))
    names: list[str] = reader.get_all_records()
    if odd := [name for name in names if not FILES.fullmatch(name)]:
        raise ValueError(f"it holds {odd[0]!r}, which is no part of a graph and its weights")
    for name in names:
        if name.endswith("_config.json"):
            _check_tensors(name, json.loads(reader.get_record(name)))
    samples = reader.get_record(SAMPLE_INPUTS) if SAMPLE_INPUTS in names else b""
    if samples:
        # torch.export.load would try again without the restriction.
        torch.load(io.BytesIO(samples), map_location="cpu", weights_only=True)
    for path, text in _texts(json.loads(reader.get_record("models/model.json")), ()):
        _check_text(path, text)


def _check_tensors(name: str, content: Any) -> None:
    for key, entry in content["config"].items():
        if entry["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise ValueError(f"{name}: {key} is not a plain tensor")


def _texts(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """All text in a JSON tree, with the keys that lead there; a key is text too."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield (*path, "a key"), key
            yield from _texts(value, (*path, key))
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, path)
    elif isinstance(content, str):
        yield path, content


def _check_text(path: tuple[str, ...], text: str) -> None:
    last = path[-1] if path else ""
    if last in ("target", "as_operator"):
        good = OPERATOR.fullmatch(text)
    elif last in ("expr_str", "as_expr"):
        good = len(text) <= 1000 and SHAPE.fullmatch(text)
    elif last in ("in_spec", "out_spec"):
        good = not TREE.search(text)
    elif "metadata" in path:
        good = text.isprintable()
    elif last == "torch_version":
        good = VERSION.fullmatch(text)
    elif last == "as_string":
        good = TEXT.fullmatch(text)
    else:
        good = NAME.fullmatch(text)
    if not good:
        raise ValueError(f"its graph has {text[:60]!r} as {last}")
