"""Runs jobs: one after the other in this process, each in one of its own, or wherever a Hydra launcher takes them."""

import time
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from ft.errors import UserError
from ft.job_folder import FAILED, JobFolder, Result
from ft.sweeps.compose import Composer
from ft.sweeps.running.isolated import job_word, run_all_isolated

# Failures that another attempt would only repeat.
CERTAIN = ("mistake", "not a number")


class Launch:
    """Brings jobs to their end.

    Args:
        context: Hydra's.
        task: The verb, as Hydra calls it.
        config: The sweep's, whose launcher is used.
        composer: Composes a job's config.
        isolate: Each job in a process of its own.
        parallel: Jobs at a time, where that is so.
        retries: Further attempts of a job that failed.

    Raises:
        UserError: Several jobs at a time, all of them in this process.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        composer: Composer,
        *,
        isolate: bool,
        parallel: int,
        retries: int,
    ) -> None:
        self.context = context
        self.task = task
        self.composer = composer
        self.isolate = isolate
        self.parallel = parallel
        self.retries = retries
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
        self.launched = 0
        if parallel > 1 and self._in_this_process:
            raise UserError(
                f"sweep.parallel={parallel}: with launcher=local runs come one after the other, in this process.\n"
                "launcher=joblib, or sweep.isolate=true, runs them side by side."
            )

    @property
    def at_a_time(self) -> int:
        """Jobs that run side by side."""
        return 1 if self._in_this_process else self.parallel

    @property
    def _in_this_process(self) -> bool:
        return isinstance(self.launcher, BasicLauncher) and not self.isolate

    def __call__(self, folders: Sequence[JobFolder]) -> None:
        """Runs the jobs that have not ended, and failed ones again as often as is allowed.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
        """
        while waiting := [folder for folder in folders if self._is_to_run(folder)]:
            self._run(waiting)

    def reopen(self, folder: JobFolder) -> None:
        """Puts aside what came of a job that failed and may be tried again."""
        result = folder.result()
        if result is None or result.status != FAILED:
            return
        if result.why not in CERTAIN and result.attempts <= self.retries:
            folder.try_again()

    def _is_to_run(self, folder: JobFolder) -> bool:
        self.reopen(folder)
        return folder.result() is None

    def _run(self, folders: Sequence[JobFolder]) -> None:
        if self.isolate:
            run_all_isolated(folders, at_a_time=self.parallel, hydra=self.composer.of_hydra)
        elif self._in_this_process:
            for folder in folders:
                self._run_here(folder)
        else:
            started = time.monotonic()
            words = [[*folder.job().overrides, job_word(folder)] for folder in folders]
            returns = self.launcher.launch(words, initial_job_idx=self.launched)
            for folder, returned in zip(folders, returns, strict=True):
                # Its status and what it raised; where it was, it may have had no time to write it down.
                _ended(folder, returned._return_value, started)
        self.launched += len(folders)

    def _run_here(self, folder: JobFolder) -> None:
        started = time.monotonic()
        config = self.composer.config([*folder.job().overrides, job_word(folder)])
        with open_dict(config.hydra.job):
            config.hydra.job.id, config.hydra.job.num = str(self.launched), self.launched
        try:
            returned = run_job(
                task_function=self.task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key=None,
                hydra_context=self.context,
                configure_logging=False,
            )
        except SystemExit as error:
            _ended(folder, RuntimeError(f"the run ended the process with {error.code!r}"), started)
        else:
            _ended(folder, returned._return_value, started)


def _ended(folder: JobFolder, returned: object, started: float) -> None:
    """A job that could not write what came of it: its config was refused before it began."""
    if folder.result() is None:
        error = returned if isinstance(returned, BaseException) else RuntimeError("it left no result")
        why = "mistake" if isinstance(error, UserError | HydraException | OmegaConfBaseException) else "raised"
        seconds = round(time.monotonic() - started, 2)
        folder.answer(Result(FAILED, why=why, message=str(error) or type(error).__name__, seconds=seconds))
