"""Which runs are meant, and what they have said of a split."""

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ft.errors import UserError, one_of
from ft.inference.predictions import FOLDER, Predictions
from ft.run_folder import RunFolder, write_whole
from ft.scoring.compare import Comparison

SPLITS = ("train", "val", "test")
WILD = frozenset("*?[")


def find_runs(wanted: str | Sequence[object] | None, *, runs_dir: str) -> dict[str, RunFolder]:
    """Runs by name, each once.

    Args:
        wanted: A folder, a name below ``runs_dir``, ``last``, a glob of folders (as it is, or below ``runs_dir``), or
            several of them.
        runs_dir: Where runs are.

    Raises:
        UserError: There is no such run, or only one.
    """
    listed = [str(wanted)] if isinstance(wanted, str) else [str(each) for each in wanted or ()]
    if not listed:
        raise UserError(f"ft.compare needs runs=[A,B,...], or a glob such as runs='{runs_dir}/2026*'.")
    paths = {folder.path: folder for each in listed for folder in _matching(each, runs_dir)}
    if len(paths) < 2:
        raise UserError(f"runs={','.join(listed)} is one run, {next(iter(paths))}: there is nothing to compare.")
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): folder for path, folder in paths.items()}


def load_predictions(runs: dict[str, RunFolder], split: str) -> dict[str, Predictions]:
    """What each run's best checkpoint said of the split.

    Raises:
        UserError: There is no such split, or a run has none of it; names the command that makes them.
    """
    one_of(split, SPLITS, "split")
    missing = [name for name, run in runs.items() if not (run.path / FOLDER / f"{split}.safetensors").is_file()]
    if len(missing) > 1:
        raise UserError(
            f"{len(missing)} of {len(runs)} runs have no predictions of their {split} split: {', '.join(missing)}.\n"
            f"For each of them: python -m ft.evaluate run='{runs[missing[0]].path}' split={split}"
        )
    return {name: Predictions.load(run.path, split) for name, run in runs.items()}


def common_metric(metrics: Mapping[str, str]) -> str:
    """What the runs were trained for, without its split: ``val/acc`` is ``acc``.

    Args:
        metrics: ``task.metric`` of each run.

    Raises:
        UserError: They were trained for different ones.
    """
    names = {run: metric.rpartition("/")[2] for run, metric in metrics.items()}
    if len(set(names.values())) > 1:
        told = ", ".join(f"{run} for {name}" for run, name in list(names.items())[:4])
        raise UserError(f"the runs were trained for different metrics ({told}): choose one with metric=NAME.")
    return next(iter(names.values()))


def check_output(output: str | None, *, overwrite: bool) -> Path | None:
    """The file to write, if any.

    Raises:
        UserError: It is there already, or its folder is not.
    """
    if output is None:
        return None
    path = Path(output).expanduser()
    if path.is_dir():
        raise UserError(f"output={output} is a folder: name a file, such as output={path / 'compare.json'}.")
    if path.exists() and not overwrite:
        raise UserError(f"output={output} exists, and is kept: choose another name, or set overwrite=true.")
    if not path.parent.is_dir():
        raise UserError(f"output={output} cannot be written: there is no folder {path.parent}.")
    return path


def write_comparison(path: Path, comparison: Comparison, folders: Mapping[str, RunFolder]) -> None:
    """As JSON, with the place of each run."""
    places = {name: str(folder.path) for name, folder in folders.items()}
    write_whole(path, json.dumps({**comparison.as_dict(), "folders": places}, indent=2) + "\n")


def _matching(wanted: str, runs_dir: str) -> list[RunFolder]:
    if not WILD & set(wanted) or Path(wanted).is_dir():
        return [RunFolder.find(wanted, runs_dir=runs_dir, key="runs")]
    places = (Path(wanted).expanduser(), Path(runs_dir).expanduser() / wanted)
    found = sorted(path for place in places for path in glob.glob(str(place)))
    folders = [RunFolder(Path(path).resolve()) for path in found]
    if runs := [folder for folder in folders if folder.config.is_file()]:
        return runs
    raise UserError(f"runs={wanted} matches no run folder, neither as it is nor below runs_dir={runs_dir}.")
