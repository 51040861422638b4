"""Processors are counted by what this process may use, not by what the machine has."""

import math
import os

import pytest

from ft.processors import processors, quota


@pytest.mark.parametrize(
    ("text", "value"), [("max 100000\n", math.inf), ("150000 100000\n", 1.5), ("nonsense", math.inf)]
)
def test_a_container_s_quota_is_read(tmp_path, text, value):
    (tmp_path / "cpu.max").write_text(text)
    assert quota(str(tmp_path / "cpu.max")) == value
    assert quota(str(tmp_path / "absent")) == math.inf


def test_processors_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr("ft.processors.quota", lambda: math.inf)
    assert processors() == len(os.sched_getaffinity(0))
    monkeypatch.setattr("ft.processors.quota", lambda: 0.5)
    assert processors() == 1
