"""Asks for trials, has them run, tells what came of them: the loop of every sweep but that of backbones.

proposals -> trials -> one run a seed -> [computed together | begun from another's phases | alone] -> rows
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ft.errors import UserError, did_you_mean
from ft.job_folder import FINISHED, HALVING, PRUNED, Job, JobFolder, key_of
from ft.sweeps.running.deadline import Deadline
from ft.sweeps.running.shared_phases import Fork, plan
from ft.sweeps.running.together import groups
from ft.sweeps.samplers.proposals import Proposal, Proposals
from ft.sweeps.space.space import as_overrides
from ft.sweeps.trial import RUNNING, SeedRun, Trial
from ft.sweeps.work import Rows, Work

# What a finalist's job is told beside its config: it is another one than that of its first look.
FINAL = {"final": True}


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
        if self.request.settings["pruner"] == HALVING:
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
        """Of ``trials.json``, by number."""
        return [trial.row() for trial in sorted(self.trials, key=lambda trial: trial.number)]

    def configs(self) -> dict[str, Mapping[str, Any]]:
        """Of all runs, by key."""
        return {run.key: run.config for trial in self.trials for run in trial.runs}

    def _begin(self, proposal: Proposal) -> Trial:
        runs = []
        for at in range(self.request.settings["seeds"]):
            words = [*self.request.fixed, *as_overrides(proposal.params)]
            if "seed" not in proposal.params:
                words.append(f"seed={self.request.seed + at}")
            runs.append(self._seed_run(proposal.number, self.work.composer.plain(words), words))
        return Trial(proposal.number, proposal.params, proposal.trial, runs)

    def _seed_run(
        self, number: int, config: Mapping[str, Any], words: Sequence[str], settings: Mapping[str, Any] | None = None
    ) -> SeedRun:
        folder = self.folder.job(key_of(config, settings))
        run = self.folder.run(number, folder.path.name)
        if (folder.path / "job.json").is_file():
            run = Path(folder.job().run)  # of an earlier call, or of another trial with the same values
            self.launch.reopen(folder)
        return SeedRun(config["seed"], config, words, folder, str(run.relative_to(self.folder.path)))

    def _finalists(self) -> list[Trial]:
        """The best of the trials that were only looked at, and those that an earlier call has run to their end."""
        sign = -1 if self.request.mode == "max" else 1
        looked = [(trial.value, trial) for trial in self.trials if trial.state == PRUNED and trial.value is not None]
        ranked = sorted(looked, key=lambda pair: (sign * pair[0], pair[1].number))
        chosen = []
        for place, (_, trial) in enumerate(ranked):
            runs = [self._seed_run(trial.number, run.config, run.overrides, FINAL) for run in trial.runs]
            if place < self.request.settings["finalists"] or any(run.folder.result() for run in runs):
                trial.go_on(runs)
                chosen.append(trial)
        return chosen

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
                proposals.tell(trial.number, trial.state, self._values(trial))
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
            told["before"] = [run.folder.result().value for run in trial.runs[:at]]  # pyright: ignore[reportOptionalMemberAccess] -- they have ended
        settings: dict[str, Any] = dict(FINAL) if trial.looked else {}
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
        if trial.state != FINISHED:
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
