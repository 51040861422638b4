"""A copy of the tree takes five things that ft does not know, as docs/extending.md shows them; ft/ stays as it is."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ft.fork.make_fork import LEFT_OUT

ROOT = Path(__file__).parent.parent
SHOWN = re.compile(r"^`([^`\n]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIVE = {
    "plugins/label_noise.py",
    "conf/plugins/label_noise.yaml",
    "conf/data/birds.yaml",
    "conf/model/regnet.yaml",
    "plugins/models/tiny_cnn.py",
    "conf/model/tiny_cnn.yaml",
    "conf/optimizer/rprop.yaml",
}
NEW = ("plugins=[label_noise]", "data=birds", "optimizer=rprop")
TINY = ("model.img_size=32", "model.weights=none", "trainer=smoke", "trainer.accelerator=cpu", "data.num_workers=0")


def shown() -> dict[str, str]:
    """The files of docs/extending.md: a path in backticks, then a block."""
    return dict(SHOWN.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``{robin,wren}/*.png``: eight small pictures each."""
    generator = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("birds")
    for name in ("robin", "wren"):
        (root / name).mkdir()
        for number in range(8):
            pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> tuple[Path, dict[str, str]]:
    """The copy with what the page shows, on the test's images, and the hashes ``ft/`` had before that."""
    root = tmp_path_factory.mktemp("copied") / "tree"
    for part in ("ft", "conf", "plugins", "tests"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copy2(ROOT / "pyproject.toml", root)
    before = hashes(root / "ft")
    for name, text in shown().items():
        assert not (root / name).exists(), f"{name} is there already"
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text.replace("/data/birds", f"'{photos}'"), encoding="utf-8")
    return root, before


def start(tree: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=tree,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # they run side by side
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_page_shows_five_additions_and_the_plugin_has_15_lines():
    files = shown()
    assert set(files) == FIVE
    plugin = [line for line in files["plugins/label_noise.py"].splitlines() if line.strip()]
    assert len(plugin) <= 15


@pytest.mark.full
def test_a_plugin_a_data_set_two_models_and_an_optimizer_need_no_change_of_ft(copied, tmp_path):
    tree, before = copied
    processes = {
        model: start(tree, "-m", "ft.train", f"model={model}", *NEW, *TINY, f"runs_dir={tmp_path}/{model}")
        for model in ("regnet", "tiny_cnn")
    }
    contract = (
        "-m",
        "pytest",
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "tests/plugins/test_contract.py",
        "-k",
        "label_noise",
    )
    processes["contract"] = start(tree, *contract)
    told = {name: process.communicate(timeout=300)[0] for name, process in processes.items()}
    for name, process in processes.items():
        assert process.returncode == 0, told[name]
    assert re.search(r"\b[5-9] passed|\d\d passed", told["contract"])

    for model, target in (("regnet", "ft.model.timm_model"), ("tiny_cnn", "plugins.models.tiny_cnn")):
        summary = json.loads((tmp_path / model / "last" / "summary.json").read_text())
        config = OmegaConf.load(tmp_path / model / "last" / "config.yaml")
        assert summary["status"] == "finished"
        assert config.model._target_.startswith(target)
        assert list(config.plugins) == ["label_noise"]
        assert config.optimizer._target_ == "torch.optim.Rprop"
        assert Path(config.data.root).name.startswith("birds")
    assert before
    assert hashes(tree / "ft") == before
