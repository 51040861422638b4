"""A package that is installed beside the template offers its configs and classes; ft/ does not change."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "shouting"
version = "1.0"

[project.entry-points."ft.conf"]
shouting = "shouting.conf"

[tool.setuptools]
packages = ["shouting", "shouting.conf", "shouting.conf.plugins"]
package-data = { "shouting.conf" = ["**/*.yaml"] }
""",
    "shouting/loud.py": """\
from ft import Plugin


class Shout(Plugin):
    def __init__(self, *, word: str) -> None:
        self.word = word

    def on_train_start(self, trainer, pl_module):
        print(self.word)
""",
    "shouting/conf/plugins/shout.yaml": """\
# @package plugins.shout
# Says a word.
_target_: shouting.loud.Shout
word: hello
""",
    "shouting/__init__.py": "",
    "shouting/conf/__init__.py": "",
    "shouting/conf/plugins/__init__.py": "",
}
TINY = ("model.name=test_resnet", "model.weights=none", "data=synthetic", "data.num_images=16", "trainer=smoke")
pytestmark = pytest.mark.skipif(
    not (find_spec("pip") and find_spec("setuptools")), reason="pip and setuptools are needed to install a package"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the package ``shouting``, from a folder that is gone."""
    root = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")
    for name, text in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    pip = [sys.executable, "-m", "pip", "install", *offline, "--target", str(root), str(source)]
    result = subprocess.run(pip, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return root


def train(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ft.train", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )


def test_an_installed_package_offers_a_plugin_by_name(site, tmp_path):
    result = train(site, *TINY, "plugins=[shout]", "plugins.shout.word=HOO", f"runs_dir={tmp_path}/runs")
    assert result.returncode == 0, result.stderr
    assert "HOO" in result.stdout


def test_its_plugin_is_among_the_choices_of_a_mistyped_name(site):
    result = train(site, "plugins=[shuot]")
    assert result.returncode == 2
    assert "plugins=shuot is not a choice. Did you mean shout" in result.stderr
    choices = result.stderr.splitlines()[1].removeprefix("plugins can be ").rstrip(".").split(", ")
    assert {"shout", "gradual_unfreezing"} <= set(choices)
