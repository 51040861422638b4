"""The code base itself: nowhere is anything called that runs what it reads."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(file for room in ("ft", "plugins", "hydra_plugins") for file in (ROOT / room).rglob("*.py"))

# Dotted ends of calls; a bare name counts too.
NEVER = {
    "pickle.load", "pickle.loads", "_pickle.load", "_pickle.loads", "cloudpickle.load", "cloudpickle.loads",
    "dill.load", "dill.loads",
    "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.load_all",
    "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "torch.hub.load", "np.fromfile", "pd.read_pickle",
    "pandas.read_pickle", "load_from_checkpoint", "eval", "exec", "compile", "__import__", "os.system", "os.popen",
    "tarfile.open", "extractall", "unpack_archive", "load_state_dict_from_url", "hydra.utils.instantiate",
    "hydra.utils.call", "execfile", "runpy.run_path", "read_hdf",
}  # fmt: skip


@cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


@cache
def calls(file: Path) -> list[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called."""
    return [(dotted(node.func), node) for node in nodes(file) if isinstance(node, ast.Call)]


def dotted(node: ast.AST) -> str:
    """As it is written; what is no name in front of a dot is a question mark."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def is_forbidden(name: str) -> bool:
    bare = {each for each in NEVER if "." not in each} - {"load_from_checkpoint", "extractall", "unpack_archive"}
    if "." not in name:
        return name in bare or name in ("load_from_checkpoint", "extractall", "unpack_archive")
    return any(name == each or name.endswith(f".{each}") for each in NEVER - bare)


def keyword(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(each.value) for each in call.keywords if each.arg == name), None)


def test_nothing_is_called_that_runs_what_it_reads():
    assert len(FILES) > 200
    for file, (name, call) in ((known, each) for known in FILES for each in calls(known)):
        where = f"{file.relative_to(ROOT)}:{call.lineno}: {name}"
        assert not is_forbidden(name), where
        if name == "torch.load":
            assert keyword(call, "weights_only") is True, where
        if name in ("np.load", "numpy.load"):
            assert keyword(call, "allow_pickle") is False, where
        if name.endswith(("literal_eval",)):
            raise AssertionError(where)


def test_the_places_that_look_something_up_by_name_are_known():
    found = {
        str(file.relative_to(ROOT))
        for file in FILES
        for name, _ in calls(file)
        if name.rpartition(".")[2] in ("import_module", "Unpickler", "find_class")
    }
    assert found == {
        "ft/__init__.py",  # its own names
        "ft/allowed_targets.py",  # the base classes of its table
        "ft/instantiate.py",  # the one call site
        "ft/deploy/load.py",  # one module a format, from a table
        "ft/deploy/write.py",  # likewise
    }


def test_pt2_files_are_read_in_one_place_after_they_were_looked_at():
    found = [file for file in FILES for name, _ in calls(file) if name.endswith("export.load")]
    assert found == [ROOT / "ft/deploy/pt2_file.py"]
    text = found[0].read_text(encoding="utf-8")
    assert 0 < text.index("check_pt2(folder") < text.index("torch.export.load(folder")


def test_pickle_is_imported_only_for_its_error_and_for_arrays():
    found = {
        str(file.relative_to(ROOT))
        for file in FILES
        for node in nodes(file)
        if (isinstance(node, ast.Import) and any(alias.name in ("pickle", "joblib", "dill") for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module in ("pickle", "joblib", "dill", "cloudpickle"))
    }
    assert found == {
        "ft/data/only_arrays.py",  # an Unpickler that knows arrays only
        "ft/data/torchvision_sets.py",  # UnpicklingError
        "ft/model/weight_files.py",  # UnpicklingError
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pickle.loads(x)", True), ("import pickle as p; p.loads(x)", False), ("torch.jit.load(x)", True),
        ("eval(x)", True), ("model.eval()", False), ("re.compile(x)", False), ("compile(x)", True),
        ("archive.extractall()", True), ("FineTuner.load_from_checkpoint(x)", True), ("yaml.safe_load(x)", False),
    ],
)  # fmt: skip
def test_the_test_can_fail(line, told):
    names = [dotted(node.func) for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call)]
    assert any(map(is_forbidden, names)) is told
