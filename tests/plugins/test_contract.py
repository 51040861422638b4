"""What every plugin keeps to. It walks ``conf/plugins``: a fork's plugin is covered the moment its YAML exists."""

import inspect
import pickle
from itertools import combinations
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode

from ft.build.data import build_data
from ft.build.run import build_model
from ft.checkpoint.load import load
from ft.data.transforms import EvaluationTransform, normalize
from ft.errors import UserError
from ft.instantiate import instantiate
from ft.plugin import Plugin, overrides
from tests.conftest import assert_equal_weights, composed, weights_of
from tests.plugins.conftest import ARCHITECTURES, CONF, PLUGINS, Diary, settings

BATCH_HOOKS = tuple(
    name
    for name, _ in inspect.getmembers(Callback, inspect.isfunction)
    if any(word in name for word in ("batch", "backward", "optimizer_step", "zero_grad"))
)
EVERY_OTHER_PAIR = list(combinations(PLUGINS, 2))
# The fast tier takes a sample in which every plugin meets several others.
SAMPLE = EVERY_OTHER_PAIR[:: max(1, len(EVERY_OTHER_PAIR) // 6)]


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize(
    "architecture", [ARCHITECTURES[0], *(pytest.param(each, marks=pytest.mark.full) for each in ARCHITECTURES[1:])]
)
def test_it_trains(whole_run, name, architecture):
    run, diary = whole_run(*settings(name, architecture=architecture), architecture=architecture)
    assert [plugin.name for plugin in run.module.plugins] == [name]
    assert len(diary.lines) == run.trainer.fit_loop.epoch_loop.total_batch_idx + 1
    assert run.checkpoints.best is not None
    before = run.data.splits["train"].targets
    assert len(before) > 0
    assert all(value.isfinite().all() for value in weights_of(run).values())


def resumed_equals_whole(runs, whole_run, name, architecture, batch):
    options = settings(name, architecture=architecture)
    whole, written = whole_run(*options, architecture=architecture)
    diary = Diary()
    again = runs.cut_and_resume(*options, epoch=1, batch=batch, architecture=architecture, watch=diary)
    assert diary.lines
    assert {at: written.lines[at] for at in diary.lines} == diary.lines
    assert max(diary.lines) == max(written.lines)
    assert_equal_weights(weights_of(whole), weights_of(again))
    one, other = (load(run.folder.last) for run in (whole, again))
    assert_equal_states(one["optimizer_states"], other["optimizer_states"])
    assert_equal_states(one.get("trained_weights"), other.get("trained_weights"))


@pytest.mark.parametrize("name", PLUGINS)
def test_interrupted_inside_an_epoch_and_resumed_equals_the_whole_run(runs, whole_run, name):
    resumed_equals_whole(runs, whole_run, name, "test_resnet", 1)


# Three phases of two epochs, two stored views, whatever the plugin is; each phase is gone through.
DEEPENING = (
    "recipe=auto", "trainer.max_epochs=6", "recipe.min_gain=-1", "recipe.phases.0.views=2", "recipe.phases.1.views=2",
    "recipe.phases.2.views=2",
)  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("name", PLUGINS)
def test_with_the_default_recipe_a_resumed_run_equals_the_whole_one(runs, whole_run, name):
    """On stored activations where the plugin allows it, inside a phase and at its beginning."""
    options = (*settings(name), *DEEPENING)
    whole, written = whole_run(*options)
    for epoch, batch in ((1, 1), (2, None), (3, 2)):
        diary = Diary()
        again = runs.cut_and_resume(*options, epoch=epoch, batch=batch, watch=diary)
        assert {at: written.lines[at] for at in diary.lines} == diary.lines
        assert_equal_weights(weights_of(whole), weights_of(again))


@pytest.mark.full
@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize(("architecture", "batch"), [("test_resnet", None), ("test_vit", None), ("test_vit", 1)])
def test_interrupted_and_resumed_equals_the_whole_run(runs, whole_run, name, architecture, batch):
    resumed_equals_whole(runs, whole_run, name, architecture, batch)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plain_model_with_the_kept_weights_reproduces_the_validation_loss(whole_run, name):
    """Evaluation is untouched: no plugin, no trainer, and yet the same number."""
    run, _ = whole_run(*settings(name))
    plugin = run.module.plugins[0]
    assert isinstance(run.loaders.eval_transform, EvaluationTransform)
    weights = weights_of(run)
    with composed() as config:
        del config  # Hydra's state as a verb finds it
    config: Any = OmegaConf.to_container(OmegaConf.load(run.folder.config), resolve=True)
    task = instantiate(config["task"], "task")
    data = build_data(config, task)
    model = build_model(config, task, data.suggested, load_weights=False)
    if overrides(plugin, "change_model"):
        assert plugin.changes_evaluation, "what changes the network has to say so"
        model = plugin.change_model(model)
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    if not plugin.changes_evaluation:
        assert_equal_weights(weights, {f"model.{key}": value for key, value in run.module.model.state_dict().items()})
    model.eval()
    losses, count = 0.0, 0
    with torch.no_grad():
        for batch in data.loaders(model.input_spec, [], seed=0).evaluation_loader("val"):
            logits = model(normalize(batch.images, model.input_spec))
            losses += float(task.loss(logits, batch.targets)) * len(batch.index)
            count += len(batch.index)
    last = run.metrics.rows[max(run.metrics.rows)]
    assert last["val/loss"] == pytest.approx(losses / count, rel=1e-5)


@pytest.mark.parametrize("name", PLUGINS)
def test_its_state_is_plain_and_it_pickles(runs, whole_run, name):
    run, _ = whole_run(*settings(name))
    kept = torch.load(run.folder.last / "state.pt", weights_only=True)  # a pickled class would be refused
    plugin = run.module.plugins[0]
    if plugin.state_dict():
        assert f"plugins.{name}" in kept["callbacks"]
    fresh = runs.build(*settings(name)).module.plugins[0]
    again = pickle.loads(pickle.dumps(fresh))
    assert type(again) is type(fresh)
    assert again.name == name


@pytest.mark.parametrize("name", PLUGINS)
def test_at_its_neutral_setting_it_changes_nothing_and_costs_nothing_a_batch(whole_run, name):
    cls = type(plugin_of(name))
    if cls.neutral is None:
        pytest.skip(f"{name} names no neutral setting")
    plain, _ = whole_run()
    own = [each for each in settings(name) if not any(each.startswith(f"plugins.{name}.{key}=") for key in cls.neutral)]
    neutral = [f"plugins.{name}.{key}={'null' if value is None else value}" for key, value in cls.neutral.items()]
    with counted(cls) as operations:
        run, _ = whole_run(*own, *neutral)
    assert_equal_weights(weights_of(plain), weights_of(run))
    assert operations == [], "per-batch hooks compute something although there is nothing to do"
    assert isinstance(run.loaders.train_transform, EvaluationTransform)


@pytest.mark.parametrize(("one", "other"), SAMPLE)
def test_two_plugins_work_together_or_are_refused_by_name(runs, one, other):
    together(runs, one, other)


@pytest.mark.full
@pytest.mark.parametrize(("one", "other"), EVERY_OTHER_PAIR)
def test_every_two_plugins_work_together_or_are_refused_by_name(runs, one, other):
    together(runs, one, other)


def together(runs, one, other):
    try:
        run = runs.train(*settings(one, other))
    except UserError as error:
        refusal = str(error)
    else:
        assert [plugin.name for plugin in run.module.plugins] == [one, other]
        assert all(value.isfinite().all() for value in weights_of(run).values())
        assert 0 in run.metrics.rows
        return
    assert one in refusal
    assert other in refusal


def plugin_of(name: str) -> Plugin:
    with composed(f"plugins=[{name}]") as config:
        return instantiate(OmegaConf.to_container(config.plugins[name], resolve=True), f"plugins.{name}")


def test_every_plugin_is_one_file_one_yaml_one_test():
    root = CONF.parent
    for folder, ending in (("plugins", "{}.py"), ("tests/plugins", "test_{}.py")):
        for name in PLUGINS:
            assert (root / folder / ending.format(name)).is_file(), f"{folder}/{ending.format(name)} is missing"
    modules = {file.stem for file in (root / "plugins").glob("*.py")} - {"__init__"}
    assert modules == set(PLUGINS)


def assert_equal_states(one, other) -> None:
    """Nested plain values with tensors, bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_states(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal_states(a, b)
    else:
        assert one == other


class counted:
    """Inside, every torch operation that a class's per-batch hooks start is listed."""

    def __init__(self, cls: type[Plugin]) -> None:
        self.cls = cls
        self.operations: list[str] = []
        self.changed: dict[str, object] = {}

    def __enter__(self) -> list[str]:
        seen = self.operations

        class Listing(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                seen.append(str(func))
                return func(*args, **(kwargs or {}))

        for hook in (*BATCH_HOOKS, "train_batch"):
            original = self.cls.__dict__.get(hook)
            if original is None:
                continue
            self.changed[hook] = original

            def listed(*args, _original=original, **kwargs):
                with Listing():
                    return _original(*args, **kwargs)

            setattr(self.cls, hook, listed)
        return seen

    def __exit__(self, *error: object) -> None:
        for hook, original in self.changed.items():
            setattr(self.cls, hook, original)
