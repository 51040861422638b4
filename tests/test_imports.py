"""Who may import whom, and what must not be imported before it is needed. DESIGN of the house, as a test."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ft

ROOT = Path(__file__).parent.parent
LEAVES = ("model", "data", "tasks", "optim")
# Rooms that stand around the core and reach a run only through its folder.
OUTER = ("results", "deploy", "sweeps")
# One verb a file: they alone see all rooms.
VERBS = sorted(file.stem for file in (ROOT / "ft").glob("*.py") if "run_verb(" in file.read_text(encoding="utf-8"))
HYDRA = {*VERBS, "command", "build", "sweeps", "jobs"}
LIGHTNING = {"module", "plugin", "phases", "checkpoint", "build", "show", "jobs", "faults"}


def modules() -> list[tuple[str, Path]]:
    """Every file of ``ft`` and ``plugins`` with its dotted name."""
    files = sorted([*ROOT.glob("ft/**/*.py"), *ROOT.glob("plugins/**/*.py")])
    return [(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), file) for file in files]


def imported(file: Path, *, everything: bool = True) -> set[str]:
    """Dotted names that a file imports; with ``everything=False`` only at module level and at run time."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if everything else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(name: str) -> str:
    """``ft.data.folder`` is in room ``data``, ``ft.module`` in room ``module``."""
    return name.split(".")[1] if name.count(".") else ""


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize(("name", "file"), modules(), ids=[name for name, _ in modules()])
def test_imports_keep_to_the_rules(name: str, file: Path):
    uses = imported(file)
    inside = {other for other in uses if within(other, "ft")}
    rooms = {room(other) for other in inside} - {""}
    if within(name, "plugins"):
        allowed = {"plugin", "model", "data", "optim", "tasks", "checkpoint", "errors", "input_spec", "kinds", "plot"}
        assert rooms <= allowed | set(ft.__all__)
        assert not {other for other in uses if within(other, "plugins") and other not in ("plugins", name)}
        return
    assert not {other for other in uses if within(other, "plugins")}, "the core knows no plugin by name"
    here = room(name)
    if here in LEAVES:
        assert rooms <= {here, "processors", "errors", "input_spec"}, "a leaf imports no other room"
    if here in ("fork", "new"):
        assert rooms <= {"fork", "errors"}
        assert {other.partition(".")[0] for other in uses} <= {"ft", *sys.stdlib_module_names}, "it only copies files"
    else:
        assert "fork" not in rooms
    if here == "cache":
        assert rooms <= {"cache", "data", "model", "errors", "input_spec"}
    if here == "machine":
        assert rooms <= {"machine", "cache", "processors", "errors", "input_spec"}
        assert all(within(other, "ft.cache.folder") for other in inside if within(other, "ft.cache"))
    if here == "inference":
        assert rooms <= {"inference", "data", "tasks", "plain_files", "errors", "input_spec"}
    if here == "scoring":
        assert rooms <= {"scoring", "inference", "errors"}
    if here == "rules":
        assert rooms <= {"rules", "kinds", "errors"}
    if here == "page":
        assert rooms <= {"page", "errors"}
    if here in OUTER:
        assert rooms <= {
            here,
            "inference",
            "scoring",
            "page",
            "data",
            "model",
            "tasks",
            "run_folder",
            "job_folder",
            "duration",
            "plain_files",
            "trial_storage",
            "rules",
            "plot",
            "errors",
            "input_spec",
            "processors",
            "show",
        }
        assert not rooms & set(OUTER) - {here}
    elif here not in VERBS:
        assert not rooms & set(OUTER), "the core never imports what stands around it"
        if here != "jobs":
            assert "jobs" not in rooms, "a sweep asks for jobs; the core knows of none"
    if any(within(other, package) for other in uses for package in ("hydra", "omegaconf")):
        assert here in HYDRA
    if any(within(other, package) for other in uses for package in ("lightning", "pytorch_lightning")):
        assert here in LIGHTNING or name == "ft.data.module"


def test_every_verb_is_short():
    for verb in [*VERBS, "new", "cache/__main__"]:
        assert len((ROOT / "ft" / f"{verb}.py").read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize(
    "statement",
    [
        "import ft",
        *(f"import ft.{verb}" for verb in VERBS),
        "import ft.new",
        "import ft.command.mistakes",
        "import ft.command.given",
        "import ft.sweeps.sweep",
        "import ft.cache.__main__",
    ],
)
def test_torch_stays_out_until_it_is_needed(statement: str):
    heavy = "{'torch', 'timm', 'lightning', 'torchvision', 'sklearn'}"
    code = f"import sys; {statement}; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_a_plugin_author_needs_is_listed_and_found():
    assert [getattr(ft, name).__name__ for name in ft.__all__] == ft.__all__
    with pytest.raises(AttributeError, match="no attribute 'Plugn'"):
        _ = ft.Plugn  # pyright: ignore[reportAttributeAccessIssue]
