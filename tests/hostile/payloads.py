"""Files that do something when they are read as what they are not: each would make the folder ``marker``."""

import argparse
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class Evaluates(Runs):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({str(self.marker)!r})",)


class Rebuilds(Runs):
    """Named are only functions of torch that ``weights_only=True`` knows; what they are given is not."""

    def __reduce__(self):
        return torch._tensor._rebuild_from_type_v2, (os.mkdir, torch.Tensor, (str(self.marker),), {})


class FindsPath(Runs):
    """``getattr`` on something allowed, then a call."""

    def __reduce__(self):
        return getattr(os, "makedirs"), (str(self.marker),)  # noqa: B009


def _saved(content: object, *, zipped: bool) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def _numpy(save: Callable[..., None], marker: Path) -> bytes:
    out = io.BytesIO()
    array = np.array([Runs(marker)], dtype=object)
    save(out, array) if save is np.save else save(out, rows=array, bootstraps=array)
    return out.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def _tar(marker: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", "../../outside"):
            content = pickle.dumps(Runs(marker))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _script(marker: Path) -> bytes:
    code = f"import os\nos.mkdir({str(marker)!r})\n".encode()
    pickled = pickle.dumps(Runs(marker))
    return _zip({"m/version": b"3", "m/code/__torch__.py": code, "m/data.pkl": pickled, "m/constants.pkl": pickled})


def _safetensors(header: object, body: bytes = b"\0" * 16, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _tensor(start: int, end: int, shape: tuple[int, ...] = (4,)) -> dict[str, object]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}


BINARY: dict[str, Callable[[Path], bytes]] = {
    "pickle, protocol 2": lambda marker: pickle.dumps({"a": Runs(marker)}, protocol=2),
    "pickle, protocol 5": lambda marker: pickle.dumps(Runs(marker), protocol=5),
    "pickle, by hand": lambda marker: b"cos\nmkdir\n(S" + repr(str(marker)).encode() + b"\ntR.",
    "eval": lambda marker: pickle.dumps(Evaluates(marker)),
    "gzip": lambda marker: gzip.compress(pickle.dumps(Runs(marker))),
    "torch zip": lambda marker: _saved({"state_dict": Runs(marker)}, zipped=True),
    "torch legacy": lambda marker: _saved({"model": Runs(marker)}, zipped=False),
    "torch tar": _tar,
    "torch zip, eval in a list": lambda marker: _saved([torch.zeros(2), [Evaluates(marker)]], zipped=True),
    "torch zip, rebuilt": lambda marker: _saved({"a": Rebuilds(marker)}, zipped=True),
    "torch zip, namespace": lambda marker: _saved(
        {"args": argparse.Namespace(x=FindsPath(marker)), "state_dict": {"a": torch.zeros(1)}}, zipped=True
    ),
    "torchscript": _script,
    "npy of objects": lambda marker: _numpy(np.save, marker),
    "npz of objects": lambda marker: _numpy(np.savez, marker),
    "zip that climbs": lambda marker: _zip(
        {"../../outside": b"x", "/etc/outside": b"x", "a/data.pkl": pickle.dumps(Runs(marker))}
    ),
    "safetensors, header of 2^63": lambda marker: _safetensors({}, length=2**63),
    "safetensors, header past the end": lambda marker: _safetensors({"a": _tensor(0, 16)}, length=10**6),
    "safetensors, overlapping": lambda marker: _safetensors({"a": _tensor(0, 16), "b": _tensor(8, 24)}),
    "safetensors, negative": lambda marker: _safetensors({"a": _tensor(-16, 0)}),
    "safetensors, 2^60 elements": lambda marker: _safetensors({"a": _tensor(0, 16, (2**30, 2**30))}),
    "safetensors, deep": lambda marker: _safetensors(b"[" * 50_000 + b"]" * 50_000),
    "safetensors, pickle as body": lambda marker: _safetensors(
        {"../../outside": _tensor(0, 16)}, pickle.dumps(Runs(marker))
    ),
    "shell": lambda marker: f"#!/bin/sh\nmkdir {marker}\n".encode(),
    "empty": lambda marker: b"",
}

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]\n" for at in range(1, 10)
)
YAML: dict[str, Callable[[Path], str]] = {
    "python/object/apply": lambda marker: f"data: !!python/object/apply:os.mkdir ['{marker}']\n",
    "python/object/new": lambda marker: f"data: !!python/object/new:os.mkdir ['{marker}']\n",
    "python/name": lambda marker: "data: !!python/name:os.system\n",
    "python/module": lambda marker: "data: !!python/module:os\n",
    "another tag": lambda marker: "data: !mkdir x\n",
    "a bomb of aliases": lambda marker: BOMB,
    "deep": lambda marker: "data: " + "[" * 450 + "]" * 450 + "\n",
    "deep by indentation": lambda marker: "".join("  " * at + "a:\n" for at in range(300)),
    "a list": lambda marker: "[1, 2]\n",
    "no text": lambda marker: "\x00\x01",
    "another config": lambda marker: "name: x\n",
}
JSON: dict[str, Callable[[Path], str]] = {
    "deep": lambda marker: "[" * 100_000 + "]" * 100_000,
    "deep in an object": lambda marker: '{"a": ' * 50_000 + "1" + "}" * 50_000,
    "a list": lambda marker: "[1, 2, 3]",
    "a number": lambda marker: "7",
    "a long number": lambda marker: "1" * 10_000,
    "text": lambda marker: f"__import__('os').mkdir({str(marker)!r})",
    "other keys": lambda marker: '{"py/object": "os.system", "version": 1, "files": {"../../x": "y"}, "__reduce__": 1}',
    "half": lambda marker: '{"classes": ["a", ',
}
