"""Freed memory is kept for the next batch."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from ft.machine.allocator import keep_freed_memory
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.empty(100 * 2**20, np.uint8).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_batch_does_not_get_its_pages_anew():
    def faults(kept: str) -> int:
        # Pages of one size: NumPy asks for huge ones, and gets them or not.
        environment = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}
        command = [sys.executable, "-c", FAULTS, kept]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return int(done.stdout)

    assert faults("kept") < 0.2 * faults("freed")


def test_another_c_library_is_left_alone(monkeypatch):
    from ft.machine.allocator import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory.__wrapped__() is False
