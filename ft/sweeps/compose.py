"""From the words of a command line to a job's config and its key."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

# What changes nothing of what a run computes.
NOT_OF_A_JOB = ("runs_dir", "resume", "report", "sweep", "launcher", "logger")
KEY_LENGTH = 12


class Composer:
    """Composes the configs of jobs, as Hydra would for a run of its own.

    Args:
        loader: Hydra's.
        config_name: The YAML in ``conf`` without its ending.
        of_hydra: Overrides of Hydra's own keys.
    """

    def __init__(self, loader: ConfigLoader, config_name: str, of_hydra: Sequence[str]) -> None:
        self.loader = loader
        self.config_name = config_name
        self.of_hydra = list(of_hydra)

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The whole config of a job.

        Raises:
            HydraException, OmegaConfBaseException: An override names what there is not.
        """
        return self.loader.load_configuration(self.config_name, [*self.of_hydra, *overrides], RunMode.RUN)

    def plain(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The same without Hydra's section and with nothing left to resolve.

        Raises:
            HydraException, OmegaConfBaseException: Likewise, or a value is missing.
        """
        config = self.config(overrides)
        with open_dict(config):
            del config["hydra"]
        content: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return content


def key_of(config: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> str:
    """The name of a job: the same for the same computation.

    Args:
        config: Resolved.
        settings: What else a job is told, where it is not a training run.
    """
    told = {name: value for name, value in config.items() if name not in NOT_OF_A_JOB}
    text = json.dumps([told, dict(settings or {})], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
