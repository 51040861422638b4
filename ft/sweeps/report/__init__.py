"""``sweep.html``: one page about a sweep that opens offline; the same as tables, and its winner as an experiment.

SWEEP/   sweep.html   sweep.csv   sweep.parquet   best.yaml   plots/*.png
"""

import tempfile
from pathlib import Path

from ft.errors import UserError
from ft.page import render
from ft.run_folder import write_whole
from ft.sweeps.folder import SweepFolder
from ft.sweeps.report.best import write_best
from ft.sweeps.report.content import content
from ft.sweeps.report.material import Material
from ft.sweeps.report.tables import write_tables

PAGE, PLOTS = "sweep.html", "plots"
TEMPLATE = Path(__file__).parent / "sweep.html.jinja"


def write_report(sweep: Path) -> Path:
    """Writes all of it, each file as a whole, and returns the page's path; of a sweep that still runs, what there is.

    Args:
        sweep: Folder of the sweep.

    Raises:
        UserError: It has no trials yet, or a file of it is damaged.
    """
    material = Material.read(sweep)
    files = write_tables(material)
    best = write_best(sweep)
    with tempfile.TemporaryDirectory(prefix=".plots.", dir=sweep) as place:
        fresh = Path(place) / PLOTS  # its own folder: the outer one is for nobody else to read
        fresh.mkdir()
        page = render(TEMPLATE, content(material, fresh, [*files, *([best.name] if best else [])]))
        if (sweep / PLOTS).exists():
            (sweep / PLOTS).rename(Path(place) / "old")
        fresh.rename(sweep / PLOTS)
    write_whole(sweep / PAGE, page)
    return sweep / PAGE


def sweep_asked_for(*, run: str | None, sweep: str | None, runs_dir: str) -> Path | None:
    """The folder of the sweep that ``ft.report`` is to tell of; ``None`` if it is to tell of a run.

    Args:
        run: Of the config; the folder of a sweep counts as one.
        sweep: Of the config: a name, ``last`` or a path.
        runs_dir: Where runs and sweeps are.

    Raises:
        UserError: There is no such sweep, or both are given.
    """
    if run and sweep:
        raise UserError(f"ft.report tells of one thing at a time: run={run} or sweep={sweep}.")
    if sweep:
        return SweepFolder.find(sweep, runs_dir=runs_dir, key="sweep").path
    folder = Path(run).expanduser() if run else None
    return folder.resolve() if folder is not None and (folder / "sweep.yaml").is_file() else None
