"""One sweep from its request to its report."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ft.errors import Terminated
from ft.job_folder import FAILED, FINISHED
from ft.run_folder import write_whole
from ft.sweeps.compose import Composer
from ft.sweeps.driver import JobDriver
from ft.sweeps.folder import SweepFolder
from ft.sweeps.live.live import Live
from ft.sweeps.request import Request, read_request, refuse_another
from ft.sweeps.running.launch import Launch
from ft.sweeps.running.soup import choose_members
from ft.sweeps.samplers.proposals import Proposals
from ft.sweeps.space.space import as_overrides
from ft.sweeps.trials import Trials
from ft.sweeps.work import Rows, Work

SOME_FAILED, ALL_FAILED = 3, 1


def run_sweep(
    arguments: Sequence[str], *, context: HydraContext, task: TaskFunction, config: DictConfig
) -> float | None:
    """Runs what is missing of a sweep, and writes its report.

    Args:
        arguments: Of the command line, without those of Hydra's own keys.
        context: Hydra's.
        task: The verb.
        config: The sweep's, composed by Hydra.

    Returns:
        The best value.

    Raises:
        UserError, HydraException, OmegaConfBaseException: Anything that could be known before the first run.
        SystemExit: 3 where some trials failed, 1 where all did.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; the same command goes on.
    """
    of_hydra = [str(word) for word in config.hydra.overrides.hydra]
    composer = Composer(context.config_loader, config.hydra.job.config_name, of_hydra)
    request = read_request(arguments, composer)
    folder = SweepFolder.named(request.name, runs_dir=request.runs_dir)
    refuse_another(request, folder.asked(), resumed=any(word.startswith("resume=") for word in arguments))
    # Where Hydra and its launchers put what they write.
    composer.of_hydra += as_overrides({"hydra.sweep.dir": str(folder.path)})
    settings = request.settings
    of_backbones = settings["method"] == "backbones"
    looked_at = _candidates(request, composer) if of_backbones else ([], [])
    launch = Launch(
        # A sweep that goes on may have been told its launcher when it began.
        context, task, composer.config(request.own), composer,
        isolate=settings["isolate"] or not request.one_process,
        parallel=settings["parallel"], retries=settings["retries"],
    )  # fmt: skip
    with folder.alone():
        folder.ask(_content(request, folder, folder.asked()))
        proposals = None if of_backbones else _proposals(request, folder)
        with Live(None if proposals is None else proposals.total, request.metric, request.mode) as live:
            work = Work(request, folder, composer, launch, live.show)
            hurried = False
            try:
                rows = _backbones(work, *looked_at) if proposals is None else _trials(work, proposals, live)
            except Terminated:
                hurried = True  # who sends SIGTERM does not wait for a page
                raise
            finally:
                live.close()
                # An interrupted sweep has something to show too.
                if live.rows and not hurried:
                    _report(request, folder)
    return _end(rows, request)


def _trials(work: Work, proposals: Proposals, live: Live) -> Rows:
    trials = Trials(work)
    rows = trials.run(proposals)
    live.close()
    _soup(work, rows, trials.configs())
    return rows


def _candidates(request: Request, composer: Composer) -> tuple[list[Any], list[str]]:
    from ft.sweeps.backbones.sweep import asked_candidates

    return asked_candidates(request.settings, lambda words: composer.plain([*request.fixed, *words]))


def _backbones(work: Work, candidates: Sequence[Any], without: Sequence[str]) -> Rows:
    from ft.sweeps.backbones.sweep import rank_backbones

    rows: Rows = []

    def show(new: Rows) -> None:
        rows[:] = new
        work.show(new)

    rank_backbones(JobDriver(work._replace(show=show)), candidates, without)
    return rows


def _soup(work: Work, rows: Rows, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Averages the best runs, where that is asked for and there is more than one."""
    if work.request.settings["soup"] == "none":
        return
    request, folder = work.request, work.folder
    members = choose_members(rows, configs, mode=request.mode, folder=folder.path)
    if len(members) < 2:
        print("soup    none: fewer than two runs have weights of the same shapes", flush=True)
        return
    driver = JobDriver(work)
    job = driver.ask("soup", (), {"members": [str(member) for member in members]}, run="runs/soup")
    (result,) = driver.run([job])
    print(f"soup    {result.message}", flush=True)
    if result.status == FINISHED:
        told = json.loads((folder.path / "runs" / "soup" / "soup.json").read_text(encoding="utf-8"))["members"]
        kept = [each["run"] for each in told if each["kept"]]
        value = result.metrics.get(request.returned) if request.returned else result.value
        content = {"members": [each["run"] for each in told], "kept": kept, "value": value, "run": "runs/soup"}
        write_whole(folder.path / "soup.json", json.dumps(content, indent=2) + "\n")


def _proposals(request: Request, folder: SweepFolder) -> Proposals:
    settings = request.settings
    if settings["sampler"] == "grid":
        from ft.sweeps.samplers.grid import Grid

        return Grid(request.space, settings["trials"])
    from ft.sweeps.samplers.study import Study

    return Study(
        request.space,
        sampler=settings["sampler"],
        pruner=settings["pruner"],
        pruner_warmup=settings["pruner_warmup"],
        metrics=request.metrics,
        trials=settings["trials"],
        seed=request.seed,
        storage=settings["storage"] or f"sqlite:///{folder.study}",
        name=request.name,
        seeds=settings["seeds"],
    )


def _content(request: Request, folder: SweepFolder, asked: dict[str, Any]) -> dict[str, Any]:
    """Of ``sweep.yaml``."""
    return {
        "name": folder.name,
        "choice": request.choice,
        # What goes on remembers the first command; a later one adds to it.
        "arguments": [word for word in request.arguments if not word.startswith("sweep.name=")],
        "metric": request.metric,
        "mode": request.mode,
        **request.identity(),
        "trials": request.settings["trials"],
        "soup": request.settings["soup"],
        "created": asked.get("created") or f"{datetime.now():%Y-%m-%d %H:%M:%S}",
    }


def _report(request: Request, folder: SweepFolder) -> None:
    if request.settings["report"]:
        # Its plots are not paid for by a sweep that is refused.
        from ft.sweeps.report import write_report

        print(f"report  {write_report(folder.path)}", flush=True)


def _end(rows: Rows, request: Request) -> float | None:
    states = [row["state"] for row in rows]
    if FAILED in states:
        raise SystemExit(ALL_FAILED if set(states) == {FAILED} else SOME_FAILED)
    values = [row["value"] for row in rows if row["state"] == FINISHED]
    return (max if request.mode == "max" else min)(values, default=None)
