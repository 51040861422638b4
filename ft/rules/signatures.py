"""The parameters of a ``_target_``, read from its source: nothing is imported, so that nothing is waited for.

Annotations are the built-in kinds, lists, dictionaries, ``Literal`` and unions of these; everything else is ``Any``. A
module may give one a name: ``Mode = Literal["norm", "value"]``.
"""

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Union

NAMES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "Any": Any}
# Annotated far away, and large.
NOT_READ = ("torch", "timm", "lightning", "torchvision", "torchmetrics")


@cache
def parameters(target: str) -> Mapping[str, Any] | None:
    """Names and annotations of what a class or a function takes.

    Args:
        target: ``package.module.Name``.

    Returns:
        ``None`` where the source does not say: it is not there, defined elsewhere, or takes any name.
    """
    module, _, name = target.rpartition(".")
    source = _source(module)
    if source is None:
        return None
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None  # Python says so in its own words when it imports it.
    found: Any = next((each for each in tree.body if getattr(each, "name", None) == name), None)
    if isinstance(found, ast.ClassDef):
        found = next((each for each in found.body if getattr(each, "name", None) == "__init__"), None)
    if not isinstance(found, ast.FunctionDef) or found.args.kwarg is not None:
        return None
    named = {
        each.targets[0].id: each.value
        for each in tree.body
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
    }
    given = (*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs)
    return {each.arg: _annotation(each.annotation, named) for each in given if each.arg != "self"}


def _source(module: str) -> Path | None:
    package, *rest = module.split(".")
    if package in NOT_READ or not all(part.isidentifier() for part in (package, *rest)):
        return None
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place).joinpath(*rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _annotation(node: ast.expr | None, named: Mapping[str, ast.expr]) -> Any:
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name):
        if node.id in NAMES:
            return NAMES[node.id]
        return _annotation(named[node.id], {}) if node.id in named else Any
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[_annotation(node.left, named), _annotation(node.right, named)]  # noqa: UP007 -- made at run time
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return Literal[tuple(each.value for each in inside if isinstance(each, ast.Constant))]
        kinds = tuple(_annotation(each, named) for each in inside)
        if node.value.id in ("list", "Sequence"):
            return {"list": list, "Sequence": Sequence}[node.value.id][kinds]
        if node.value.id in ("dict", "Mapping"):
            return {"dict": dict, "Mapping": Mapping}[node.value.id][kinds]
    return Any
