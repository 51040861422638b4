"""Every search space in conf/sweep composes with the default configuration, in all of its values."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from ft.command.verb import CONF
from ft.sweeps.compose import Composer
from ft.sweeps.request import read_request

SWEEPS = sorted(file.stem for file in Path(CONF).glob("sweep/*.yaml") if file.stem not in ("grid", "backbones"))


@pytest.mark.full
@pytest.mark.parametrize("name", SWEEPS)
def test_a_shipped_sweep_composes(name: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("train", [])
        request = read_request([f"sweep={name}"], Composer(GlobalHydra.instance().config_loader(), "train", []))
    assert request.choice == name
    assert request.space.parameters


def test_all_optimizers_are_searched():
    assert "gd,sgd,cg,adam,adamw,adagrad,adadelta,nadam,adamax" in (CONF / "sweep" / "optimizer.yaml").read_text(
        "utf-8"
    )
