"""The sweeper that ``-m`` calls.

Hydra imports every module of ``hydra_plugins`` whenever it starts, so that this one imports nothing before it is
called.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class FtSweeper(Sweeper):
    """Hands over what Hydra knows."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        from ft.sweeps.sweep import run_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        return run_sweep(arguments, context=self.hydra_context, task=self.task_function, config=self.config)
