"""A ``_target_`` names a class or function of an allowed package, or nothing happens."""

import pytest

from ft.errors import UserError
from ft.instantiate import check_targets, instantiate, instantiate_later, locate


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.open",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "subprocess.run",
        "ftx.evil",
        "pluginsx.evil",
        "",
        7,
        None,
    ],
)
def test_other_packages_are_refused_before_anything_is_imported(target):
    with pytest.raises(UserError, match="is not allowed"):
        check_targets({"model": {"deep": [{"_target_": target}]}})


@pytest.mark.parametrize(
    "target",
    [
        "ft.instantiate.import_module",
        "ft.instantiate.ROOT",
        "ft.instantiate.tomllib.loads",
        "timm.models._helpers.torch.load",
        "torch.nn.functional.torch.hub.load",
        "torch.optim.optimizer.torch",
        "ft.command.os.system",
    ],
)
def test_what_an_allowed_module_merely_imports_is_refused(target):
    with pytest.raises(UserError, match=r"is not a|there is no module"):
        locate(target, "model")


def test_a_typo_in_a_target_is_named():
    with pytest.raises(UserError, match=r"torch.optim has no Adm. Did you mean Adam"):
        locate("torch.optim.Adm", "optimizer")
    with pytest.raises(UserError, match=r"there is no module torch.optm|is not allowed"):
        locate("torch.optm.Adam", "optimizer")


def test_arguments_are_checked_before_the_call():
    with pytest.raises(UserError, match=r"data.sise: synthetic has no such argument.*Did you mean size"):
        instantiate({"_target_": "ft.data.synthetic.synthetic", "sise": 3}, "data")
    with pytest.raises(UserError, match=r"schedule.warm: constant has no such argument"):
        instantiate_later({"_target_": "ft.optim.schedules.constant", "warm": 3}, "schedule")


def test_nested_targets_are_built_too():
    stack = instantiate({"_target_": "torch.nn.ModuleDict", "modules": {"_target_": "torch.nn.ModuleDict"}}, "model")
    assert type(stack).__name__ == "ModuleDict"


def test_a_value_the_class_refuses_names_the_key():
    with pytest.raises(UserError, match=r"model: dropout probability has to be between 0 and 1"):
        instantiate({"_target_": "torch.nn.Dropout", "p": 3}, "model")


def test_a_fork_lists_further_packages_in_its_own_project_file(monkeypatch, tmp_path):
    from ft import allowed_targets as module

    (tmp_path / "pyproject.toml").write_text('[tool.ft]\nallowed_targets = ["json"]\n')
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module.own_packages.cache_clear()
    try:
        assert locate("json.JSONDecoder", "model.reader").__name__ == "JSONDecoder"
        with pytest.raises(UserError, match="is not a torch module"):
            locate("json.JSONDecoder", "model")
    finally:
        monkeypatch.undo()
        module.own_packages.cache_clear()
