"""The winner of a sweep as an experiment file.

SWEEP/best.yaml                               as it is
RUNS_DIR/sweeps/experiment/best_of/NAME.yaml  the same, for ``python -m ft.train experiment=best_of/NAME``
RUNS_DIR/sweeps/experiment/best_of/last.yaml  of the newest sweep
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

import ft
from ft.job_folder import JobFolder
from ft.run_folder import write_whole
from ft.sweeps.report.material import Material, Row
from ft.sweeps.report.uncertainty import SEEDS, seed_values, uncertainty

CONF = Path(ft.__file__).parent.parent / "conf"
FILE, FOLDER, LAST = "best.yaml", Path("experiment") / "best_of", "last"
# What a run is told that is no part of what was found out.
NOT_FOUND_OUT = ("seed", "runs_dir", "resume", "sweep")


@dataclass
class Experiment:
    """The parts of an experiment file.

    Attributes:
        defaults: Entries of the defaults list.
        values: Nested.
        beside: Overrides that a file cannot express.
    """

    defaults: list[Any] = field(default_factory=list)
    values: Any = field(default_factory=lambda: OmegaConf.create({}))
    beside: list[str] = field(default_factory=list)


def write_best(sweep: Path) -> Path | None:
    """Writes the files, each as a whole, and returns ``best.yaml``; ``None`` where no trial has finished.

    Args:
        sweep: Folder of the sweep.

    Raises:
        UserError: The sweep has no trials yet, or a file of it is damaged.
    """
    material = Material.read(sweep)
    if not material.ranked:
        return None
    row = material.ranked[0]
    overrides = JobFolder(sweep / "jobs" / row["jobs"][0]["key"]).job().overrides
    with _loader() as loader:
        text = _head(material, row) + as_file(experiment_of(overrides, loader))
    offered = sweep.parent / FOLDER
    offered.mkdir(parents=True, exist_ok=True)
    write_whole(sweep / FILE, text)
    write_whole(offered / f"{sweep.name}.yaml", text)
    newest = sweep.parent / LAST
    if not newest.exists() or newest.resolve() == sweep.resolve():
        write_whole(offered / f"{LAST}.yaml", text)
    return sweep / FILE


def experiment_of(overrides: Sequence[str], loader: ConfigLoader) -> Experiment:
    """What the overrides of a run say, divided into choices of groups and values.

    Args:
        overrides: Of the command line.
        loader: Knows which keys are groups.
    """
    groups = loader.list_groups("")
    found = Experiment()
    added: dict[str, list[str]] = {}
    for each in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key = each.key_or_group
        if each.is_hydra_override() or key.partition(".")[0] in NOT_FOUND_OUT:
            continue
        value: Any = each.value()
        if key in groups and not isinstance(value, dict):
            _choose(found, each, added)
        elif each.is_delete():
            found.beside.append(each.input_line or key)
        else:
            OmegaConf.update(found.values, key, value, merge=True, force_add=True)
    # By their paths: the group itself may have only one entry in all files together.
    found.defaults += [f"/{group}/{name}" for group, names in added.items() for name in names]
    return found


def as_file(experiment: Experiment) -> str:
    """YAML; what it cannot express is a comment."""
    lines = [f"# To be written beside experiment=, a file cannot say it: {word}\n" for word in experiment.beside]
    content: dict[str, Any] = {}
    if experiment.defaults:
        content["defaults"] = [*experiment.defaults, "_self_"]
    values: Any = OmegaConf.to_container(experiment.values, resolve=False)
    content |= values
    return "".join(lines) + (yaml.safe_dump(content, sort_keys=False, width=110) if content else "{}\n")


def _choose(found: Experiment, each: Override, added: dict[str, list[str]]) -> None:
    """Puts the choice of a group into the defaults list."""
    group, value = each.get_key_element().lstrip("+~"), each.value()
    if each.is_delete():
        found.defaults.append({f"override /{group}": None})
    elif each.is_add() or each.is_force_add():
        added.setdefault(group, []).extend(value if isinstance(value, list) else [value])  # pyright: ignore[reportArgumentType]
    elif group == "experiment" and value is not None:
        # This file is the experiment; what it goes out from is loaded by its path.
        found.defaults[:0] = [f"/experiment/{name}" for name in (value if isinstance(value, list) else [value])]
    else:
        found.defaults.append({f"override /{group}": value})


def _head(material: Material, row: Row) -> str:
    known = uncertainty(material, row)
    sure = ""
    if known is not None:
        over = f"{len(seed_values(row))} seeds" if known.over == SEEDS else "the validation images"
        sure = f", {known.interval.low:.4f} to {known.interval.high:.4f} over {over}"
    name = material.folder.name
    begun = material.asked.get("created") or f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    return (
        "# @package _global_\n"
        f"# The best of {len(material.rows)} trials of the sweep {name} ({begun}): trial {row['number']}.\n"
        f"# Result: {material.metric} {row['value']:.4f}{sure}.\n"
        f"# Command: python -m ft.train experiment=best_of/{name}\n"
    )


@contextmanager
def _loader() -> Iterator[ConfigLoader]:
    """Hydra's, of the verb that runs; one of its own where none does."""
    if GlobalHydra.instance().is_initialized():
        yield GlobalHydra.instance().config_loader()
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
