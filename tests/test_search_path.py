"""A package that is installed beside the template offers its configs and classes; ft/ does not change."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_an_installed_package_offers_a_plugin_by_name(tmp_path):
    package = tmp_path / "shouting"
    (package / "conf" / "plugins").mkdir(parents=True)
    for folder in (package, package / "conf", package / "conf" / "plugins"):
        (folder / "__init__.py").write_text("")
    (package / "loud.py").write_text(
        "from ft import Plugin\n\n\n"
        "class Shout(Plugin):\n"
        "    def __init__(self, *, word: str) -> None:\n"
        "        self.word = word\n\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        print(self.word)\n"
    )
    (package / "conf" / "plugins" / "shout.yaml").write_text(
        "# @package plugins.shout\n# Says a word.\n_target_: shouting.loud.Shout\nword: hello\n"
    )
    metadata = tmp_path / "shouting-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[ft.conf]\nshouting = shouting.conf\n")

    tiny = ["model.name=test_resnet", "model.weights=none", "data=synthetic", "data.num_images=16", "trainer=smoke"]
    plugin = ["plugins=[shout]", "plugins.shout.word=HOO"]
    result = subprocess.run(
        [sys.executable, "-m", "ft.train", *tiny, *plugin, f"runs_dir={tmp_path}/runs"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "HOO" in result.stdout
