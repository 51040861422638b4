"""Jobs go together where only their heads differ, and never where anything else does."""

import copy
from typing import Any

import pytest
from omegaconf import OmegaConf

from ft.sweeps.running import together
from ft.sweeps.running.together import HEAD_KEYS, groups
from tests.conftest import composed


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    with composed("recipe=head", "data=synthetic", "model.weights=auto") as found:
        content: Any = OmegaConf.to_container(found, resolve=True)
    return content


def changed(config: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Dots of a key are written ``__``."""
    copied = copy.deepcopy(config)
    for name, value in values.items():
        *parents, leaf = name.split("__")
        holder = copied
        for parent in parents:
            holder = holder[parent]
        assert leaf in holder, "a key that every config has"
        holder[leaf] = value
    return copied


OF_A_HEAD = {
    "seed": 7,
    "model__head__hidden": [64],
    "model__head__activation": "gelu",
    "model__head__drop_rate": 0.5,
    "model__head__norm": "layer",
    "model__head_init": "random",
    "recipe__head_init": "random",
    "recipe__head_training": {"steps": 3, "batch_size": 2, "lr": 1.0, "weight_decay": 0.0},
    "recipe__mixup": 0.4,
    "task__label_smoothing": 0.1,
}
OF_MORE = {
    "model__name": "resnet18",
    "model__head__pool": "max",
    "model__img_size": 96,
    "model__weights": "required",
    "data__batch_size": 16,
    "data__num_images": 99,
    "data__class_weights": "balanced",
    "task__loss": "focal",
    "trainer__precision": "bf16-mixed",
    "cache__dtype": "int8",
    "optimizer__lr": 0.5,
    "test": False,
}
NEVER = {
    "recipe__name": "linear",
    "plugins": {"clip": {"_target_": "plugins.clip.Clip", "value": 1.0}},
    "logger": {"tensorboard": {"_target_": "lightning.pytorch.loggers.TensorBoardLogger"}},
    "budget": "5m",
    "model___target_": "own.model",
    "model__weights": "none",
    "optimizer__full_batch": True,
    "trainer__devices": 2,
    "trainer__num_nodes": 2,
    "trainer__strategy": "ddp",
}
OF_NO_JOB = {"runs_dir": "elsewhere", "report": False}


def test_every_key_of_a_head_is_tried_here():
    assert {key.replace(".", "__") for key in HEAD_KEYS} == set(OF_A_HEAD)


@pytest.mark.parametrize("key", [*OF_A_HEAD, *OF_NO_JOB])
def test_what_is_only_the_heads_goes_together(config, key):
    other = changed(config, **{key: {**OF_A_HEAD, **OF_NO_JOB}[key]})
    assert groups({"a": config, "b": other}) == [["a", "b"]]


@pytest.mark.parametrize("key", OF_MORE)
def test_what_changes_more_does_not(config, key):
    other = changed(config, **{key: OF_MORE[key]})
    assert groups({"a": config, "b": other, "c": config, "d": other}) == [["a", "c"], ["b", "d"]]


@pytest.mark.parametrize("key", NEVER)
def test_what_no_such_job_computes_is_alone(config, key):
    other = changed(config, **{key: NEVER[key]})
    assert groups({"a": other, "b": config, "c": other}) == [["a"], ["b"], ["c"]]


def test_every_key_is_in_one_group_and_the_configs_stay(config):
    configs = {f"{at}": changed(config, seed=at % 3, model__img_size=32 + at % 2) for at in range(9)}
    before = copy.deepcopy(configs)
    assert sorted(key for group in groups(configs) for key in group) == sorted(configs)
    assert configs == before
    assert groups({}) == []


def test_more_than_memory_holds_are_divided_evenly(config, monkeypatch):
    monkeypatch.setattr(together, "AT_MOST", 4)
    configs = {str(at): config for at in range(9)}
    assert [len(group) for group in groups(configs)] == [3, 3, 3]
    monkeypatch.setattr(together, "AT_ONCE_GIB", 3.5 * 24 * (4096 * 1000 + 1000 * 100) / 2**30)
    wide = {str(at): changed(config, model__head__hidden=[1000]) for at in range(6)}
    assert [len(group) for group in groups(wide)] == [3, 3]
    assert [len(group) for group in groups(configs)] == [3, 3, 3]


def test_a_width_that_is_none_is_left_to_the_job_to_refuse(config):
    assert groups({"a": config, "b": changed(config, model__head__hidden=["wide", -3])}) == [["a", "b"]]
