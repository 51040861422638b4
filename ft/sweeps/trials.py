"""Asks for trials, has them run, tells what came of them: the loop of every sweep but that of backbones.

proposals -> trials -> one run a seed -> [computed together | begun from another's phases | alone] -> rows

With ``sweep.screen`` the runs of all trials are cheap ones first, and the best trials are run once more as asked.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ft.errors import UserError, did_you_mean
from ft.job_folder import FINISHED, Job, JobFolder, key_of
from ft.sweeps.running.deadline import Deadline
from ft.sweeps.running.shared_phases import Fork, plan
from ft.sweeps.running.together import groups
from ft.sweeps.samplers.proposals import Proposal, Proposals
from ft.sweeps.space.space import as_overrides
from ft.sweeps.trial import RUNNING, SeedRun, Trial
from ft.sweeps.work import Rows, Work


class Trials:
    """The trials of one sweep.

    Args:
        work: Of the sweep.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.request = work.request
        self.folder = work.folder
        self.launch = work.launch
        self.deadline = Deadline(work.request.budget)
        self.trials: list[Trial] = []
        self._forks: dict[str, Fork] = {}
        self._kept: dict[str, list[int]] = {}

    def run(self, proposals: Proposals) -> Rows:
        """Until there are no more proposals, or no time.

        Raises:
            UserError: A metric that is asked for is none of a run's.
            KeyboardInterrupt: After Ctrl-C; the rows are written.
        """
        at_a_time = self.request.settings["parallel"]
        while self.deadline.allows_another():
            # What does not depend on results is known at once: what can be computed together, or shares phases, shows
            # only then.
            known = self.request.settings["sampler"] in ("grid", "random")
            asked = proposals.ask(proposals.total or at_a_time if known else at_a_time)
            if not asked:
                break
            batch = [self._begin(proposal) for proposal in asked]
            self.trials += batch
            self._attempt(batch, proposals)
        if self.request.settings["screen"]:
            self._attempt(self._finalists(), proposals)
        return self.rows()

    def _attempt(self, batch: Sequence[Trial], proposals: Proposals) -> None:
        try:
            self._run(batch, proposals)
        finally:
            for trial in batch:
                # Where it has not ended: by Ctrl-C, or because time is over.
                trial.interrupted = True
            self._tell()

    def rows(self) -> Rows:
        """Of ``trials.json``, by number; what has not begun is no trial yet."""
        return [trial.row() for trial in sorted(self.trials, key=lambda trial: trial.number) if trial.begun]

    def configs(self) -> dict[str, Mapping[str, Any]]:
        """Of all runs, by key."""
        return {run.key: run.config for trial in self.trials for run in trial.runs}

    def _begin(self, proposal: Proposal) -> Trial:
        screen = self.request.settings["screen"] or {}
        runs = self._runs(proposal.number, proposal.params, as_overrides(screen))
        return Trial(proposal.number, proposal.params, proposal.trial, runs, screened=bool(screen))

    def _runs(self, number: int, params: Mapping[str, Any], further: Sequence[str]) -> list[SeedRun]:
        """One a seed, with further overrides."""
        runs = []
        for at in range(self.request.settings["seeds"]):
            words = [*self.request.fixed, *as_overrides(params), *further]
            if "seed" not in params:
                words.append(f"seed={self.request.seed + at}")
            config = self.work.composer.plain(words)
            folder = self.folder.job(key_of(config))
            run = self.folder.run(number, folder.path.name)
            if (folder.path / "job.json").is_file():
                run = Path(folder.job().run)  # of an earlier call, or of another trial with the same values
                self.launch.reopen(folder)
            at_hand = str(run.relative_to(self.folder.path))
            runs.append(SeedRun(config["seed"], config, words, folder, at_hand, self.request.returned))
        return runs

    def _finalists(self) -> list[Trial]:
        """The best of the trials that were screened, and those that were so in an earlier call."""
        sign = -1 if self.request.mode == "max" else 1
        screened = [(sign * trial.value, trial) for trial in self.trials if trial.value is not None]
        ranked = [trial for _, trial in sorted(screened, key=lambda pair: (pair[0], pair[1].number))]
        best = [trial for trial in ranked if trial.outcome == FINISHED][: self.request.settings["finalists"]]
        chosen = [trial for trial in ranked if trial in best or self._was_finalist(trial)]
        for trial in chosen:
            trial.go_on(self._runs(trial.number, trial.params, ()))
        return chosen

    def _was_finalist(self, trial: Trial) -> bool:
        """Whether it has run folders that it was not screened in."""
        pattern = self.folder.run(trial.number, "*")
        known = {Path(run.run).name for run in trial.runs}
        return any(path.name not in known for path in pattern.parent.glob(pattern.name))

    def _run(self, batch: Sequence[Trial], proposals: Proposals) -> None:
        told: set[int] = set()
        # A process that was killed may have run them without telling.
        self._tell_ended(batch, proposals, told)
        if self.request.settings["share"]:
            self._plan(batch)
        for at in range(self.request.settings["seeds"]):
            # Of a pruned or failed trial the other seeds say nothing new.
            waiting = [(trial, trial.runs[at]) for trial in batch if trial.state == RUNNING]
            for unit in self._units(waiting):
                if not self.deadline.allows_another():
                    break
                self._run_unit(unit, at)
                self._tell_ended(batch, proposals, told)
                self._tell()

    def _tell_ended(self, batch: Sequence[Trial], proposals: Proposals, told: set[int]) -> None:
        for trial in batch:
            if trial.number not in told and trial.state != RUNNING:
                proposals.tell(trial.number, trial.outcome, self._values(trial))
                told.add(trial.number)

    def _run_unit(self, unit: Sequence[tuple[Trial, SeedRun]], at: int) -> None:
        started = time.monotonic()
        for trial, run in unit:
            self._ask(trial, run, at)
        folders = [run.folder for _, run in unit]
        pending = [folder for folder in folders if folder.result() is None]
        self._tell()
        if len(pending) > 1 and len(groups({run.key: run.config for _, run in unit})) == 1:
            self.launch([self._together(pending, unit)])
        self.launch(folders)
        if pending:
            self.deadline.took(time.monotonic() - started)

    def _units(self, waiting: Sequence[tuple[Trial, SeedRun]]) -> list[list[tuple[Trial, SeedRun]]]:
        """What is run in one go: runs that are computed together, or as many as run side by side."""
        by_key = {run.key: (trial, run) for trial, run in waiting}
        if self.request.settings["share"] and not any(trial.told for trial, _ in waiting):
            keys = groups({key: run.config for key, (_, run) in by_key.items()})
        else:
            keys = [[key] for key in by_key]
        units = [group for group in keys if len(group) > 1]
        alone = [group[0] for group in keys if len(group) == 1]
        # A run that begins where another one was comes after it.
        for wave in range(1 + max((self._depth(key) for key in alone), default=0)):
            ready = [key for key in alone if self._depth(key) == wave]
            step = self.launch.at_a_time
            units += [ready[start : start + step] for start in range(0, len(ready), step)]
        return [[by_key[key] for key in unit] for unit in units]

    def _depth(self, key: str) -> int:
        return 1 + self._depth(self._forks[key].source) if key in self._forks else 0

    def _plan(self, batch: Sequence[Trial]) -> None:
        runs = {run.key: run.config for trial in batch if not trial.told for run in trial.runs}
        self._forks = plan(runs)
        self._kept = {}
        for fork in self._forks.values():
            self._kept.setdefault(fork.source, []).append(fork.phase)

    def _ask(self, trial: Trial, run: SeedRun, at: int) -> None:
        """Writes the job down, unless it has ended."""
        if run.folder.result() is not None:
            return
        told = dict(trial.told)
        if told:
            told["before"] = [run.value for run in trial.runs[:at]]
        settings: dict[str, Any] = {}
        if run.key in self._kept:
            settings["keep_phases"] = sorted(set(self._kept[run.key]))
        if run.key in self._forks:
            fork = self._forks[run.key]
            source = next(each for each in self.trials for each in each.runs if each.key == fork.source)
            settings["fork"] = {"from": str(self.folder.path / source.run), "phase": fork.phase}
        job = Job(
            "run", run.key, run=str(self.folder.path / run.run), overrides=tuple(run.overrides),
            trial=told, settings=settings,
        )  # fmt: skip
        run.folder.ask(job, yaml.safe_dump(dict(run.config), sort_keys=False))

    def _together(self, pending: Sequence[JobFolder], unit: Sequence[tuple[Trial, SeedRun]]) -> JobFolder:
        """The job that computes several."""
        first = next(run for _, run in unit if run.folder is pending[0])
        settings = {"members": [str(folder.path) for folder in pending]}
        key = key_of(first.config, settings)
        folder = self.folder.job(key)
        job = Job("heads", key, overrides=tuple(first.overrides), settings=settings)
        folder.ask(job, yaml.safe_dump(dict(first.config), sort_keys=False))
        return folder

    def _values(self, trial: Trial) -> list[float]:
        if trial.outcome != FINISHED:
            return []
        metrics = trial.metrics()
        values = []
        for name in self.request.metrics:
            if name == self.request.metric and trial.value is not None:
                values.append(trial.value)
            elif name in metrics:
                values.append(metrics[name])
            else:
                raise UserError(
                    f"sweep.metrics names {name}, which no run returns.{did_you_mean(name, metrics)}\n"
                    f"A run returns {', '.join(sorted(metrics))}."
                )
        return values

    def _tell(self) -> None:
        self.work.tell(self.rows())
