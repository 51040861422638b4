"""Under several processes every plugin that freezes or unfreezes ends with the same weights everywhere.

Freezing before DDP wraps the model would leave parameters out of its reducer: after unfreezing, every process would
train its own backbone, and nothing would tell.
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ft.plugin import overrides
from tests.plugins.conftest import PLUGINS
from tests.plugins.test_contract import plugin_of
from tests.plugins.two_processes import RECIPE

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[2]


def test_one_pair_of_processes_runs_every_unfreezing_plugin_and_ends_each_with_equal_weights(tmp_path, tiny_weights):
    names = [
        name
        for name in PLUGINS
        if (name != "lora" or find_spec("peft"))
        and any(
            overrides(plugin_of(name), hook) for hook in ("open_stages", "open_tensors", "param_groups", "train_loss")
        )
    ]
    names.append(RECIPE)
    assert {"gradual_unfreezing", "linear_probe", "surgical", "frozen_batchnorm", "bitfit", "l2_sp"} <= set(names)
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         "-m", "tests.plugins.two_processes", str(tmp_path), str(tiny_weights), *names],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found = re.findall(r"^(\w+) difference=(\S+) moved=(\d+)$", result.stdout, re.MULTILINE)
    assert [name for name, _, _ in found] == names
    for name, difference, moved in found:
        assert float(difference) == 0, name
        assert int(moved) > 2, name
