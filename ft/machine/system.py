"""What the system says about itself: threads, memory, what others do. Linux says most; the rest is assumed quiet."""

import os
import platform
from functools import cache
from importlib.util import find_spec

import torch

from ft.processors import processors

BUSY_SHARE = 0.25  # of the processors' time


@cache
def compute_threads() -> int:
    """Threads that torch may compute with: as many as it had before a run of this process chose fewer for itself."""
    return min(processors(), torch.get_num_threads())


def processor_name() -> str:
    """The kind of processor, and a few digits of what it can do: names alone can be vague."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as opened:
            found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in opened)}
    except OSError:
        return platform.processor()
    return f"{found.get('model name', platform.machine())}, {len(found.get('flags', '').split())} flags"


def free_memory(device: torch.device) -> int | None:
    """Free bytes of the device; ``None`` where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as opened:
            lines = dict(line.split(":", 1) for line in opened)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def has_compiler(device: torch.device) -> bool:
    """Whether ``torch.compile`` has what it needs on a GPU."""
    return device.type == "cuda" and find_spec("triton") is not None


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has its own error; a CPU's allocator says it in words."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate memory" in words)
    )


class Others:
    """Watches other processes from now on."""

    def __init__(self) -> None:
        self._start = self._read()

    def were_busy(self) -> bool:
        """Whether they took more than a quarter of the processors' time since then."""
        return self.share() > BUSY_SHARE

    def share(self) -> float:
        """Of the processors' time since then, what they took."""
        then, now = self._start, self._read()
        if then is None or now is None:
            return 0.0
        every, idle, own = (after - before for before, after in zip(then, now, strict=True))
        return max(0.0, every - idle - own) / every if every > 0 else 0.0

    def _read(self) -> tuple[float, float, float] | None:
        """Seconds so far: of all processors, of those idle, of this process."""
        try:
            with open("/proc/stat", encoding="ascii") as opened:
                ticks = [int(number) for number in opened.readline().split()[1:9]]
        except (OSError, ValueError):
            return None
        own, second = os.times(), os.sysconf("SC_CLK_TCK")
        idle = ticks[3] + ticks[4]  # idle, and waiting for the disk
        return sum(ticks) / second, idle / second, own.user + own.system
