"""What is told before the imports is what the code itself says: the table of rules against the code, and timm."""

from typing import Any, get_args

import pytest

from ft.errors import UserError
from ft.kinds import choices_of
from ft.rules.check import check_values
from ft.rules.rule import Rule, at_least, below_one
from ft.rules.signatures import parameters
from ft.rules.table import TABLE
from ft.rules.timm_names import model_names, refuse_unknown_model
from tests.conftest import composed


def constants() -> dict[tuple[str, str], Any]:
    """The choices that the code refuses everything else by, and where the table has them."""

    from ft.build.recipe import NAMES
    from ft.checkpoint.keep import ON_ERROR
    from ft.data.check import POLICIES
    from ft.data.transforms import RESAMPLING
    from ft.deploy.folder import FILES
    from ft.faults.guard import ANSWERS
    from ft.inference.pixels import DTYPES
    from ft.inference.tta import TTA
    from ft.model.head import ACTIVATIONS, NORMS
    from ft.model.pool import POOLS
    from ft.phases.cache_options import DTYPES as CACHED
    from ft.phases.head_init import CHOICES
    from ft.sweeps.request import METHODS
    from ft.sweeps.samplers.searchable import PRUNERS, SAMPLERS

    return {
        ("train", "recipe.name"): NAMES,
        ("train", "checkpoint.on_error"): ON_ERROR,
        ("train", "data.on_bad"): POLICIES,
        ("train", "model.input.interpolation"): RESAMPLING,
        ("train", "on_nan"): ANSWERS,
        ("train", "model.head.activation"): ACTIVATIONS,
        ("train", "model.head.norm"): NORMS,
        ("train", "model.head.pool"): POOLS,
        ("train", "model.head_init"): CHOICES,
        ("train", "recipe.head_init"): CHOICES,
        ("train", "cache.dtype"): ("auto", *CACHED),
        ("train", "sweep.method"): METHODS,
        ("train", "sweep.sampler"): SAMPLERS,
        ("train", "sweep.pruner"): PRUNERS,
        ("predict", "tta"): TTA,
        ("predict", "precision"): DTYPES,
        ("serve", "precision"): DTYPES,
        ("doctor", "precision"): DTYPES,
        ("export", "format"): FILES,
    }


def test_the_choices_of_the_table_are_those_of_the_code():
    for (verb, key), known in constants().items():
        assert set(choices_of(TABLE[verb][key].kind)) == set(known), (verb, key)


def test_what_lightning_takes_is_what_the_table_takes():
    from lightning.fabric.connector import _PRECISION_INPUT
    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import StrategyRegistry

    rules = TABLE["train"]
    assert set(choices_of(rules["trainer.strategy"].kind)) == {"auto", *StrategyRegistry.available_strategies()}
    known = {"auto", "gpu", *AcceleratorRegistry.available_accelerators()}
    assert set(choices_of(rules["trainer.accelerator"].kind)) == known
    precisions = {"auto", *(value for each in get_args(_PRECISION_INPUT) for value in get_args(each))}
    assert set(get_args(rules["trainer.precision"].kind)) == precisions


@pytest.mark.full
def test_every_key_of_the_table_is_one_of_its_verb():
    for verb, rules in TABLE.items():
        if verb == "train":
            continue  # The doctor has all of its keys.
        choices = ("recipe=auto", "recipe=full", "recipe=head") if verb == "doctor" else ("",)
        keys: set[str] = set()
        for choice in choices:
            with composed(*filter(None, [choice]), config=verb) as config:
                keys |= {key for key in rules if _has(config, key)}
        assert keys == set(rules), set(rules) - keys


def _has(config: Any, key: str) -> bool:
    for part in key.split("."):
        if config is None or part not in config:
            return False
        config = config[part]
    return True


def test_the_defaults_of_every_verb_keep_the_rules():
    from omegaconf import OmegaConf

    for verb in TABLE:
        with composed(config=verb) as config:
            plain: Any = OmegaConf.to_container(config, resolve=False)
            check_values(plain, verb)


PHASE = {"depth": 0.5, "steps": 9, "views": 1, "rate": 1.0}


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"phases": []}, r"recipe.phases must be a list of groups with depth, steps, views, rate, got \[\]"),
        ({"phases": None}, "recipe.phases must be a list"),
        ({"phases": "abc"}, "recipe.phases must be a list"),
        ({"phases": [PHASE, 3]}, "recipe.phases.1 must be a group with depth, steps, views, rate, got 3"),
        ({"phases": [{**PHASE, "stepps": 1}]}, "recipe.phases.0 has no stepps; .* Did you mean steps"),
        ({"phases": [{"depth": 0.5}]}, "recipe.phases.0 lacks steps"),
        *(
            ({"phases": [{**PHASE, key: value}]}, f"recipe.phases.0.{key} must be")
            for key, value in [
                ("depth", 0), ("depth", 2), ("depth", float("nan")), ("steps", -5), ("steps", 1.5), ("views", 0),
                ("rate", -1), ("rate", float("nan")),
            ]
        ),
        ({"crop": [1, 0.5]}, r"recipe.crop must be \[least, most\] with 0 < least <= most <= 1"),
        ({"crop": [0.5]}, "recipe.crop must be"),
        ({"crop": 0.5}, "recipe.crop must be a list of a finite number, got 0.5"),
        ({"min_epochs": 13, "max_epochs": 12}, "recipe.min_epochs must be at most recipe.max_epochs=12, got 13"),
        ({"layer_decay": 0}, r"recipe.layer_decay must be in \(0, 1\], got 0"),
        ({"always": -1}, "recipe.always must be at least 0, got -1"),
        ({"min_gain": float("nan")}, "recipe.min_gain must be a finite number, got nan"),
        ({"min_loss_gain": 2}, r"recipe.min_loss_gain must be in \[0, 1\], got 2"),
        ({"flip": 3}, r"recipe.flip must be in \[0, 1\], got 3"),
        ({"head_training": {"steps": 0}}, "recipe.head_training.steps must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_a_recipe_that_no_run_could_go_through_is_refused(recipe: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        check_values({"recipe": recipe}, "train")


def test_timm_knows_what_its_source_names():
    import timm

    assert model_names() == sorted(timm.list_models())


def test_no_name_that_timm_takes_is_refused():
    import timm

    for name in [*timm.list_models(), *timm.list_pretrained(), "vit_base_patch16_224_in21k", "tf_efficientnet_b0_ns"]:
        refuse_unknown_model(name)
    with pytest.raises(UserError, match=r"model.name=resnt18 is not a timm model. Did you mean resnet18"):
        refuse_unknown_model("resnt18")


def test_signatures_are_those_that_python_sees():
    import inspect

    from plugins.augmentation import Augmentation

    found = parameters("plugins.augmentation.Augmentation")
    assert found is not None
    seen = inspect.signature(Augmentation).parameters
    assert list(found) == list(seen)
    for name in ("strength", "ramp", "frozen_strength", "crop", "zoom", "padding", "policy", "preview"):
        assert found[name] == seen[name].annotation, name
    assert parameters("torch.optim.AdamW") is None
    assert parameters("plugins.nothing.Nothing") is None
    assert parameters("no_such_package.x.Y") is None


@pytest.mark.parametrize(
    ("rule", "value", "told"),
    [
        (at_least(1), 0, "x must be at least 1, got 0"),
        (at_least(1), True, "x must be a whole number, got True"),
        (below_one(), 1, r"x must be in \[0, 1\), got 1"),
        (TABLE["train"]["data.num_workers"], "atuo", "x must be a whole number or auto, got 'atuo'. Did you mean auto"),
        (TABLE["export"]["format"], ["timm", "onx"], "onnx"),
        (Rule(float), float("inf"), "x must be a finite number, got inf"),
    ],
)
def test_a_rule_says_what_it_is(rule: Rule, value: Any, told: str):
    with pytest.raises(UserError, match=told):
        rule.check("x", value)
