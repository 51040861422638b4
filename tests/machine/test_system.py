"""What the system says, and what it means when it says nothing."""

import torch

from ft.machine.race import thread_counts
from ft.machine.system import Others, free_memory, is_out_of_memory


def test_free_memory_is_known_on_linux():
    free = free_memory(torch.device("cpu"))
    assert free is not None
    assert free > 2**20


def test_out_of_memory_is_known_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("not enough memory"))


def test_this_process_alone_is_not_others(monkeypatch):
    reads = iter([(100.0, 50.0, 10.0), (120.0, 52.0, 27.0)])
    monkeypatch.setattr(Others, "_read", lambda self: next(reads))
    assert not Others().were_busy()  # 20 s in all, 2 idle, 17 ours
    reads = iter([(100.0, 50.0, 10.0), (120.0, 52.0, 20.0)])
    assert Others().were_busy()
    reads = iter([None, None])
    assert not Others().were_busy()


def test_threads_are_doubled_up_to_all():
    assert [thread_counts(count) for count in (1, 2, 6, 16)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8, 16]]
