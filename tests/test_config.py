"""Every choice of every group composes, and its YAML is short, commented, and names something real."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ft.instantiate import check_targets, locate
from tests.conftest import composed

CONF = Path(__file__).parent.parent / "conf"
LISTS = ("plugins", "logger")


def choices() -> list[tuple[str, str]]:
    return [(file.parent.name, file.stem) for file in sorted(CONF.glob("*/*.yaml"))]


@pytest.mark.parametrize(("group", "choice"), choices())
def test_every_choice_composes_and_names_something_real(group: str, choice: str):
    if (group, choice) == ("launcher", "ray") and find_spec("hydra_plugins.hydra_ray_launcher") is None:
        pytest.skip("the extra ray is not installed")
    override = f"{group}=[{choice}]" if group in LISTS else f"{group}={choice}"
    overrides = [override]
    if group == "data_optimizer":  # chosen by the data set and the optimizer together
        overrides = [f"{name}={part}" for name, part in zip(("data", "optimizer"), choice.split("_"), strict=True)]
    with composed(*overrides) as config:
        plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    check_targets(plain)
    section = plain.get(group)
    if isinstance(section, dict) and "_target_" in section:
        assert callable(locate(section["_target_"], group))


@pytest.mark.parametrize("file", sorted(CONF.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_choice_is_short_and_says_what_it_is(file: Path):
    lines = file.read_text(encoding="utf-8").splitlines()
    # A cluster has many settings, and each is one line.
    most = {"experiment": 40, "launcher": 30}.get(file.parent.name, 22)
    assert len(lines) <= most
    assert any(line.startswith("# ") and not line.startswith("# @package") for line in lines[:2])


def test_every_group_the_issue_names_has_its_choices():
    found = {group: {choice for other, choice in choices() if other == group} for group, _ in choices()}
    assert found["model"] >= {"resnet", "efficientnet_lite", "efficientnet", "mobilenet", "convnext", "vit", "swin"}
    assert found["optimizer"] >= {"gd", "sgd", "cg", "lbfgs", "adam", "adamw", "adagrad", "adadelta", "nadam"}
    assert found["optimizer"] >= {"adamax", "rmsprop", "timm"}
    assert found["schedule"] >= {"constant", "cosine", "one_cycle", "step", "plateau"}
    assert found["task"] >= {"classification", "multilabel", "regression"}
    assert found["trainer"] >= {"default", "cpu", "gpu", "ddp", "smoke"}
    assert found["data"] >= {"digits", "folder", "table", "fashion_mnist", "cifar10", "cifar100", "flowers102", "pets"}
    assert found["data"] >= {"eurosat", "svhn", "hf", "synthetic"}


def test_a_rate_that_suits_the_data_gives_way_to_the_users():
    rates = {}
    for overrides in ((), ("optimizer=sgd",), ("data=synthetic",), ("optimizer.lr=5e-4",)):
        with composed(*overrides) as config:
            rates[overrides] = config.optimizer.lr
    assert list(rates.values()) == [2e-3, 0.03, 1e-3, 5e-4]
