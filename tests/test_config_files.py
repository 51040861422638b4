"""Mistakes in a user's own YAML files: told in one to three lines, with the file, before anything is done."""

from pathlib import Path

import pytest

from tests.test_typos import Reached, ask

GLOBAL = "# @package _global_\n"
EXPERIMENTS = {
    "a tab": (GLOBAL + "trainer:\n\tmax_epochs: 3\n", ["cannot start any token", 'mine.yaml", line 3']),
    "a key twice": (GLOBAL + "seed: 1\nseed: 2\n", ["duplicate key seed", 'mine.yaml", line 3']),
    "indentation": (GLOBAL + "trainer:\n  max_epochs: 3\n devices: 1\n", ["not valid YAML", 'mine.yaml", line 4']),
    "a second colon": (GLOBAL + "seed: 1: 2\n", ["mapping values are not allowed", 'mine.yaml", line 2']),
    "no package": ("trainer: {max_epochs: 1}\n", ["mine.yaml needs '# @package _global_' as its first line"]),
    "nothing in it": ("", ["mine.yaml needs '# @package _global_' as its first line"]),
    "an unknown key": (GLOBAL + "sede: 3\n", ["mine.yaml: there is no config key sede. Did you mean seed"]),
    "an unknown key inside": (
        GLOBAL + "model: {head: {drop_rat: 0.1}}\n",
        ["mine.yaml: there is no config key model.head.drop_rat. Did you mean drop_rate?"],
    ),
    "a value": (GLOBAL + "data: {on_bad: skp}\n", ["data.on_bad=skp is not a choice", "Did you mean skip?"]),
    "a kind": (GLOBAL + "trainer: {max_epochs: ten}\n", ["trainer.max_epochs must be a whole number or null"]),
    "a section": (GLOBAL + "trainer: null\n", ["trainer must be a group of keys and values, got None"]),
    "a reference": (
        GLOBAL + 'optimizer: {lr: "${nothing.here}"}\n',
        ["optimizer.lr: Interpolation key 'nothing.here' not found", "mine.yaml, line 2)"],
    ),
    "a value to come": (GLOBAL + "optimizer:\n  eps: ???\n", ["set optimizer.eps=VALUE", "mine.yaml, line 3)"]),
    "a choice": (
        GLOBAL + "defaults:\n  - override /optimizer: adm\n",
        ["optimizer=adm is not a choice. Did you mean adam", "mine.yaml, line 3)"],
    ),
    "a group": (
        GLOBAL + "defaults:\n  - override /optimzer: adam\n",
        ["experiment/mine.yaml: there is no config key optimzer. Did you mean optimizer"],
    ),
    "a choice without override": (GLOBAL + "defaults:\n  - /optimizer: adam\n", ["use 'override optimizer: adam'"]),
    "a list": (GLOBAL + "- a\n- b\n", ["experiment/mine"]),
}
PLUGINS = {
    "no package": (
        "_target_: plugins.mixup.Mixup\nalpha: 0.2\nprob: 1.0\n",
        ["'# @package plugins.NAME' as its first"],
    ),
    "a value to come": (
        "# @package plugins.mine\n_target_: plugins.mixup.Mixup\nalpha: ???\nprob: 1.0\n",
        ["plugins.mine.alpha has no value yet: set plugins.mine.alpha=VALUE.", "mine.yaml, line 3)"],
    ),
    "an argument": (
        "# @package plugins.mine\n_target_: plugins.mixup.Mixup\nalpa: 0.3\nprob: 1.0\n",
        ["plugins.mine.alpa: Mixup has no such argument; it takes alpha, prob. Did you mean alpha?"],
    ),
    "a kind": (
        "# @package plugins.mine\n_target_: plugins.mixup.Mixup\nalpha: [1]\nprob: 1.0\n",
        ["plugins.mine.alpha must be a finite number, got [1]"],
    ),
}
# Without a composition of everything, and thus quick.
QUICK = ("a tab", "a key twice")


def told_of(folder: Path, group: str, text: str, word: str) -> str:
    (folder / group).mkdir()
    (folder / group / "mine.yaml").write_text(text)
    answer = ask("train", f"hydra.searchpath=['{folder}']", word)
    assert answer.code == 2
    assert 1 <= len(answer.said.strip().splitlines()) <= 3, answer.said
    return answer.said


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in EXPERIMENTS]
)
def test_a_mistake_in_an_experiment_is_told_with_its_file(tmp_path: Path, name: str):
    text, parts = EXPERIMENTS[name]
    said = told_of(tmp_path, "experiment", text, "experiment=mine")
    for part in parts:
        assert part in said


@pytest.mark.full
@pytest.mark.parametrize("name", PLUGINS)
def test_a_mistake_in_the_yaml_of_a_plugin_is_told(tmp_path: Path, name: str):
    text, parts = PLUGINS[name]
    said = told_of(tmp_path, "plugins", text, "plugins=[mine]")
    for part in parts:
        assert part in said


def test_an_experiment_may_say_what_a_constructor_takes(tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        GLOBAL + "defaults:\n  - override /recipe: full\n  - override /data: folder\n"
        "optimizer: {amsgrad: true}\ntrainer: {benchmark: true}\ndata: {root: photos}\nmodel: {name: resnet18}\n"
    )
    with pytest.raises(Reached):
        ask("train", f"hydra.searchpath=['{tmp_path}']", "experiment=mine")


def test_a_run_that_goes_on_may_change_what_the_defaults_have_not(tmp_path: Path):
    from ft.command.resumed import changing_a_run

    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.yaml").write_text("plugins: {ema: {decay: 0.9}}\ndata: {root: photos}\n")
    words = ["resume=one", f"runs_dir={tmp_path}", "plugins.ema.decay=0.5", "data.root=there", "plugins.ema.decy=1"]
    assert changing_a_run(words) == [*words[:2], "++plugins.ema.decay=0.5", "++data.root=there", words[4]]
    assert changing_a_run(words[1:]) == words[1:]
    with pytest.raises(Reached):
        ask("train", *words[:4])


def test_the_doctor_s_help_shows_its_own_keys_alone(capsys, monkeypatch):
    from ft.command.help import show_help
    from ft.command.verb import CONF

    monkeypatch.setattr("sys.argv", ["ft", "--help"])
    with pytest.raises(SystemExit) as end:
        show_help(CONF, "doctor")
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert "likeness: 0.83" in shown
    assert "data: cifar10" in shown
    assert "python -m ft.train --help" in shown
    assert "max_epochs" not in shown
    assert "defaults" not in shown
