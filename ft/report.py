"""``python -m ft.report run=RUN`` or ``sweep=SWEEP``: one page about it, and its figures as ``plots/*.png``."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft.command.imports import heavy_imports
from ft.command.verb import CONF, run_verb

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Where the reason stands when a training could not write its report.
FAILURE = "report_failure.txt"


def report(config: "DictConfig") -> str:
    """Writes the report, tells where it is, and returns that."""
    with heavy_imports():
        from ft.build.report import build_report
        from ft.results.report import write_report
        from ft.show.console import console
        from ft.sweeps.report import sweep_asked_for
        from ft.sweeps.report import write_report as write_sweep_report

    sweep = sweep_asked_for(run=config.run, sweep=config.sweep_name, runs_dir=config.runs_dir)
    page = write_report(build_report(config)) if sweep is None else write_sweep_report(sweep)
    console().print(f"report {page}", soft_wrap=True, markup=False)
    return str(page)


def report_or_warn(run: str) -> None:
    """The report at the end of a training, which is complete without it: a failure is told, kept, and goes no further.

    Args:
        run: The run folder.
    """
    from omegaconf import OmegaConf

    from ft.show.console import warning

    config: Any = OmegaConf.load(CONF / "report.yaml")
    config.pop("defaults")
    config.run, config.sweep_name = run, None
    try:
        report(config)
    except Exception as error:
        # Whatever it is, weights and metrics are there; the traceback is for whoever mends it.
        failure = Path(run) / FAILURE
        failure.write_text(traceback.format_exc(), encoding="utf-8")
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warning(f"no report: {reason} ({failure}; once mended: python -m ft.report run='{run}')")


if __name__ == "__main__":
    run_verb(report, "report")
