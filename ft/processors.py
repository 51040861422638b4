"""How many processors this process may use: what workers, threads and processes are counted by."""

import math
import os


def processors() -> int:
    """By affinity, and by the quota of the container: a machine's own count is of no use inside one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, math.ceil(min(quota(), count))))


def quota(file: str = "/sys/fs/cgroup/cpu.max") -> float:
    """Processors' worth of time in a container, as Linux's control groups (version 2) say it; infinite without."""
    try:
        with open(file, encoding="ascii") as opened:
            allowed, period = opened.read().split()
        return math.inf if allowed == "max" else int(allowed) / int(period)
    except (OSError, ValueError):
        return math.inf
