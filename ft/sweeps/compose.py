"""From the words of a command line to a job's config."""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict


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
