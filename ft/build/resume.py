"""``resume=RUN``: the run's own config, with what the command line says on top."""

from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from ft.build.older import complete
from ft.build.stored_config import read_config
from ft.errors import UserError
from ft.run_folder import RunFolder

# They say how many runs there are, and where, and nothing about this one.
OF_A_SWEEP = ("sweep", "launcher")


def resumed_config(composed: DictConfig) -> tuple[RunFolder | None, dict[str, Any]]:
    """The folder to go on in, if there is one, and the config to build.

    Raises:
        UserError: There is no such run or it has no checkpoint, or a group is to be changed.
    """
    if not composed.resume:
        return None, _new(composed)
    folder = RunFolder.find(composed.resume, runs_dir=composed.runs_dir, key="resume")
    folder.checkpoint("last")
    config = read_config(folder.config)
    loader = GlobalHydra.instance().config_loader()
    groups = loader.list_groups("")
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(HydraConfig.get().overrides.task))
    for override in overrides:
        key = override.key_or_group
        if key in ("resume", "runs_dir"):
            continue
        if key in groups:
            raise UserError(
                f"resume={composed.resume} goes on with the run's own config, so {key} cannot be another choice. "
                f"Single values may change, such as trainer.max_epochs=10."
            )
        if key.startswith("optimizer.") and OmegaConf.select(config, key) != OmegaConf.select(composed, key):
            raise UserError(
                f"{key} is part of the optimizer's state, which resume={composed.resume} goes on with. "
                "Begin a new run for another value."
            )
        OmegaConf.update(config, key, OmegaConf.select(composed, key), force_add=True)
    return folder, complete(_plain(config))


def config_at(place: RunFolder, composed: DictConfig) -> tuple[RunFolder | None, dict[str, Any]]:
    """The same for a run whose folder is given: it goes on with its own config where it has a checkpoint."""
    if not place.last.is_dir():
        return None, _new(composed)
    return place, complete(_plain(read_config(place.config)))


def _new(composed: DictConfig) -> dict[str, Any]:
    choices = {group: choice for group, choice in HydraConfig.get().runtime.choices.items() if "/" not in group}
    config = {key: value for key, value in _plain(composed).items() if key not in OF_A_SWEEP}
    return {**config, "choices": {group: choice for group, choice in choices.items() if group not in OF_A_SWEEP}}


def _plain(config: DictConfig) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return content
