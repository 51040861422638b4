"""The search space: what Hydra's syntax means, on the command line and in a config, and what is refused."""

import random
import string
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from ft.command.verb import CONF
from ft.errors import UserError
from ft.sweeps.samplers.grid import Grid
from ft.sweeps.space.space import Parameter, Space, as_overrides, read_space

OPTIMIZERS = {
    "optimizer": "choice(adam, sgd, adamw)",
    "optimizer.momentum": {"range": "choice(0.8, 0.9)", "when": {"optimizer": "sgd"}},
    "optimizer.betas": {"range": "[0.9,0.99],[0.9,0.999]", "when": {"optimizer": ["adam", "adamw"]}},
}


def read(*words: str, space: Mapping[str, Any] | None = None) -> tuple[Space, list[str]]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return read_space(words, space or {}, GlobalHydra.instance().config_loader())


def only(word: str) -> Parameter:
    space, rest = read(word)
    assert rest == []
    (parameter,) = space.parameters
    return parameter


def all_of(space: Space) -> list[dict[str, Any]]:
    return [dict(proposal.params) for proposal in Grid(space, None).ask(1000)]


@pytest.mark.parametrize(
    ("word", "values"),
    {
        "optimizer=adam,sgd": ["adam", "sgd"],
        "optimizer=choice(adam,sgd)": ["adam", "sgd"],
        "seed=1,1,2": [1, 2],
        "model.drop_path_rate=null,0.1": [None, 0.1],
        "test=true,false": [True, False],
        "model.head.hidden=[],[256],[64,32]": [[], [256], [64, 32]],
        "data.root='a,b','c d'": ["a,b", "c d"],
        "+plugins=[mixup],[mixup,cutmix]": [["mixup"], ["mixup", "cutmix"]],
        "recipe.always=range(1,5)": [1, 2, 3, 4],
        "recipe.always=range(4,0,-1)": [1, 2, 3, 4],
        "seed=range(0,10,4)": [0, 4, 8],
        "model.head.drop_rate=range(0,0.5,0.1)": [0.0, 0.1, 0.2, 0.3, 0.4],
        "schedule=glob(co*)": ["constant", "cosine"],
    }.items(),
)
def test_what_is_listed_is_listed_with_its_types(word: str, values: list[Any]):
    parameter = only(word)
    assert parameter.key == word.partition("=")[0]
    assert parameter.values() == values
    assert parameter.size == len(values)
    assert list(map(type, parameter.values())) == list(map(type, values))


@pytest.mark.parametrize(
    ("word", "expected"),
    {
        "a=interval(8,64)": ("int", 8, 64, False),
        "a=tag(log, interval(8, 64))": ("int", 8, 64, True),
        "a=int(interval(8.0, 64))": ("int", 8, 64, False),
        "a=interval(8,64.0)": ("float", 8.0, 64.0, False),
        "a=float(interval(8,64))": ("float", 8.0, 64.0, False),
        "a=tag(log,interval(1e-4,1e-1))": ("float", 1e-4, 1e-1, True),
        "a=interval(start=-1,end=1)": ("int", -1, 1, False),
    }.items(),
)
def test_an_interval_is_of_whole_numbers_where_both_ends_are_written_so(word: str, expected: tuple[Any, ...]):
    parameter = only(word)
    assert (parameter.kind, parameter.low, parameter.high, parameter.log) == expected
    assert type(parameter.low) is type(expected[1])
    assert not parameter.is_listed


def test_texts_are_read_back_as_the_same_space():
    words = [
        "a=x,'y z',null",
        "b=range(0,0.5,0.1)",
        "c=tag(log,interval(1e-5,1e-1))",
        "d=interval(1,9)",
        "e=range(2,9,3)",
    ]
    space, _ = read(*words)
    again, _ = read(space=space.texts())
    assert again == space
    other, _ = read("a=x,'y z',null", *words[1:4], "e=range(2,10,3)")
    assert other.texts() == space.texts(), "8 is the last number of both"
    other, _ = read(*words[:4], "e=range(2,9,2)")
    assert other.texts() != space.texts()


def test_the_command_line_goes_before_the_config():
    space, rest = read(
        "model=resnet", "optimizer.lr=0.1,0.2", "seed=3", "task.label_smoothing=0.1", "data.limit=8,9",
        space={"optimizer.lr": "interval(0.0, 1.0)", "task.label_smoothing": "range(0, 0.3, 0.1)"},
    )  # fmt: skip
    assert {parameter.key: parameter.values() for parameter in space.parameters} == {
        "optimizer.lr": [0.1, 0.2],
        "data.limit": [8, 9],
    }
    assert rest == ["model=resnet", "seed=3", "task.label_smoothing=0.1"]


def test_a_grid_has_every_combination_once_the_last_parameter_fastest():
    space, _ = read("a=1,2", "b=x,y,z")
    assert all_of(space) == [{"a": a, "b": b} for a in (1, 2) for b in "xyz"]
    grid = Grid(space, 4)
    assert grid.total == 4
    assert [proposal.number for proposal in grid.ask(3)] == [0, 1, 2]
    assert [proposal.params for proposal in grid.ask(3)] == [{"a": 2, "b": "x"}]
    assert grid.ask(3) == []
    nothing = Grid(Space(), None)
    assert (nothing.total, nothing.ask(5)[0].params) == (1, {})


def test_a_parameter_is_there_only_where_its_condition_holds():
    space, _ = read(space=OPTIMIZERS)
    found = all_of(space)
    assert found == [
        *({"optimizer": "adam", "optimizer.betas": [0.9, beta]} for beta in (0.99, 0.999)),
        *({"optimizer": "sgd", "optimizer.momentum": momentum} for momentum in (0.8, 0.9)),
        *({"optimizer": "adamw", "optimizer.betas": [0.9, beta]} for beta in (0.99, 0.999)),
    ]
    assert Grid(space, None).total == 6


def test_conditions_of_conditions_may_be_written_in_any_order():
    space, _ = read(
        space={
            "c": {"range": "1,2", "when": {"b": True}},
            "b": {"range": "true,false", "when": {"a": "x"}},
            "a": "x,y",
        }
    )
    assert all_of(space) == [
        {"a": "x", "b": True, "c": 1},
        {"a": "x", "b": True, "c": 2},
        {"a": "x", "b": False},
        {"a": "y"},
    ]
    # With a left out, nothing of it is left.
    assert all_of(read("a=y", space={"b": {"range": "1,2", "when": {"a": "x"}}, "a": "x,y"})[0]) == [{}]


RATES = {
    "optimizer": "choice(adam, nadam, sgd)",
    "optimizer.lr": [
        {"range": "1e-4,1e-3", "when": {"optimizer": ["adam", "nadam"]}},
        {"range": "0.01,0.1", "when": {"optimizer": "sgd"}},
    ],
}


def test_a_key_may_have_another_range_under_another_condition():
    space, _ = read(space=RATES)
    assert all_of(space) == [
        *({"optimizer": name, "optimizer.lr": lr} for name in ("adam", "nadam") for lr in (1e-4, 1e-3)),
        *({"optimizer": "sgd", "optimizer.lr": lr} for lr in (0.01, 0.1)),
    ]
    assert space.texts() == {
        "optimizer": "adam, nadam, sgd",
        "optimizer.lr": "0.0001, 0.001 when optimizer=adam,nadam or 0.01, 0.1 when optimizer=sgd",
    }
    assert read("optimizer=sgd", space=RATES)[0].texts() == {"optimizer.lr": "0.01, 0.1"}
    assert read("optimizer.lr=0.5", space=RATES)[0].texts() == {"optimizer": "adam, nadam, sgd"}
    assert read("optimizer.lr=0.5,0.6", space=RATES)[0].texts() == {
        "optimizer": "adam, nadam, sgd",
        "optimizer.lr": "0.5, 0.6",
    }


def test_a_parameter_can_be_left_out_of_the_search():
    space, rest = read("~optimizer.momentum", "~data.limit", space=OPTIMIZERS)
    assert list(space.texts()) == ["optimizer", "optimizer.betas"]
    assert rest == ["~data.limit"], "what is not searched is Hydra's to leave out"
    # Nothing of what depends on it is left.
    assert read("~optimizer", space=OPTIMIZERS)[0] == Space()


def test_what_the_command_line_fixes_decides_the_conditions():
    space, rest = read("optimizer=sgd", space=OPTIMIZERS)
    assert space.texts() == {"optimizer.momentum": "0.8, 0.9"}
    assert rest == ["optimizer=sgd"]
    # Another list of choices: what asks for one of the others has no chance.
    space, _ = read("optimizer=adam,rmsprop", space=OPTIMIZERS)
    assert all_of(space) == [
        {"optimizer": "adam", "optimizer.betas": [0.9, 0.99]},
        {"optimizer": "adam", "optimizer.betas": [0.9, 0.999]},
        {"optimizer": "rmsprop"},
    ]


ODD = [
    None, True, False, 0, -3, 1e-05, 0.1, 1.0, 1e300, float("inf"), "", "null", "True", "nan", "1", "1e-3", "-1",
    "a", "a-b", "tf_efficientnet_lite0.in1k", "a b", " a ", "a,b", "it's", '"quoted"', "back\\slash", "end\\", "\\'",
    "a=b", "[a]", "{a}", "a:b", "x/y", "ünïcode", "(1)", "~", "+", "@", "%", "#", "!", "a\tb", "|", "choice(a)",
    [], [256], [0.5, None, "x,y", [True]], {"a": 1, "b c": [2, "3"]}, [{"depth": 0.125, "steps": 250}],
]  # fmt: skip


def test_overrides_are_read_back_as_the_same_values():
    generator = random.Random(0)
    texts = ["".join(generator.choices(string.printable[:95], k=generator.randint(1, 12))) for _ in range(500)]
    parser = OverridesParser.create()
    for value in [*ODD, *texts]:
        (word,) = as_overrides({"some.key": value})
        (override,) = parser.parse_overrides([word])
        assert override.get_key_element() == "some.key"
        assert not override.is_sweep_override(), word
        assert override.value() == value, word
        assert type(override.value()) is type(value), word


def test_groups_lists_and_values_are_composed_as_they_were_proposed():
    from tests.conftest import composed

    params = {
        "optimizer": "sgd", "optimizer.lr": 1e-05, "model.head.hidden": [256, 64], "model.drop_path_rate": None,
        "plugins": ["mixup", "ema"], "+plugins.mixup.note": "a, b", "recipe.phases.0.depth": 0.25,
    }  # fmt: skip
    with composed(*as_overrides({key: value for key, value in params.items() if "phases" not in key})) as config:
        assert config.optimizer._target_ == "torch.optim.SGD"
        assert config.optimizer.lr == 1e-05
        assert config.model.head.hidden == [256, 64]
        assert config.model.drop_path_rate is None
        assert list(config.plugins) == ["mixup", "ema"]
        assert config.plugins.mixup.note == "a, b"


REFUSED: dict[str, tuple[Sequence[str], Mapping[str, Any], str]] = {
    "empty range": (["a=range(3,3)"], {}, r"a=range\(3,3\) is empty"),
    "backwards": (["a=range(5,1)"], {}, r"a=range\(5,1\) is empty: 1 leads from 5 to no number before 1"),
    "step zero": (["a=range(1,5,0)"], {}, "is empty: 0 leads"),
    "no choice": ([], {"a": "choice()"}, r"sweep.space.a=choice\(\) is not Hydra's syntax: .*"),
    "no such file": (["optimizer=glob(nothing*)"], {}, "is empty: no choice fits"),
    "low above high": (["a=interval(2,1)"], {}, "is empty: its first number must be below its second"),
    "log of nothing": (["a=tag(log,interval(0,1))"], {}, "both numbers must be above 0"),
    "log with a step": (["a=tag(log,range(1,9,2))"], {}, "log goes with a range of whole numbers and step 1"),
    "log of choices": (["a=tag(log,choice(1,2))"], {}, "log is for interval and range"),
    "another tag": (["a=tag(lgo,interval(1,2))"], {}, "lgo is no tag; the only one is log"),
    "shuffled": (["a=shuffle(1,2,3)"], {}, "leave out shuffle"),
    "left out": (["~a=1,2"], {}, "cannot be searched"),
    "one value": ([], {"a": "adam"}, r"sweep.space.a=adam has one value.*Put a=adam into sweep.overrides"),
    "a number": ([], {"a": 3}, "sweep.space.a must be a text such as"),
    "another key": ([], {"a": {"rnge": "1,2"}}, "sweep.space.a has the keys rnge: it takes range"),
    "syntax": ([], {"a": "interval(1"}, r"sweep.space.a=interval\(1 is not Hydra's syntax"),
    "condition on nothing": (
        [],
        {"a": {"range": "1,2", "when": {"optimzer": "adam"}}, "optimizer": "adam,sgd"},
        "sweep.space.a.when names optimzer, which is no parameter of the space. Did you mean optimizer",
    ),
    "condition on another value": (
        [],
        {"a": {"range": "1,2", "when": {"optimizer": "sdg"}}, "optimizer": "adam,sgd"},
        "sweep.space.a.when: optimizer is never sdg; it is adam, sgd. Did you mean sgd",
    ),
    "condition on any number": (
        [],
        {"a": {"range": "1,2", "when": {"b": 0.5}}, "b": "interval(0.0, 1.0)"},
        "names b, which can be any number",
    ),
    "condition made one on any number": (
        ["b=interval(0.0,1.0)"],
        {"a": {"range": "1,2", "when": {"b": 1}}, "b": "1,2"},
        "sweep.space.a is there only for some values of b",
    ),
    "circle": (
        [],
        {"a": {"range": "1,2", "when": {"b": 1}}, "b": {"range": "1,2", "when": {"a": 1}}},
        "go in circles: each of a, b waits",
    ),
    "condition on no values": ([], {"a": {"range": "1,2", "when": {"b": []}}, "b": "1,2"}, "when.b is empty"),
    "two ranges at once": (
        [],
        {
            "a": "1,2",
            "b": [{"range": "3,4", "when": {"a": 1}}, {"range": "5,6", "when": {"a": [2, 1]}}],
        },
        "sweep.space.b has two ranges that a trial may have both of: 3, 4 when a=1 and 5, 6 when a=2,1",
    ),
    "a range without condition": (
        [],
        {"a": "1,2", "b": [{"range": "3,4", "when": {"a": 1}}, {"range": "5,6"}]},
        "sweep.space.b is a list: each of its entries must be",
    ),
    "a list of values": ([], {"a": ["adam", "sgd"]}, "sweep.space.a is a list: each of its entries must be"),
    "condition on several ranges": (
        [],
        {**RATES, "a": {"range": "1,2", "when": {"optimizer.lr": 0.1}}},
        "names optimizer.lr, which has several ranges",
    ),
    "no condition": ([], {"a": {"range": "1,2", "when": "b"}, "b": "1,2"}, "sweep.space.a.when must be"),
}


@pytest.mark.parametrize(("words", "space", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_trial_can_have_is_refused(words: Sequence[str], space: Mapping[str, Any], told: str):
    with pytest.raises(UserError, match=told) as caught:
        read(*words, space=space)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_grid_cannot_count_out_an_interval():
    space, _ = read("optimizer.lr=interval(0.1,0.2)", "seed=0,1")
    with pytest.raises(UserError, match=r"optimizer.lr .* range\(.*sweep.sampler=tpe"):
        Grid(space, None)
