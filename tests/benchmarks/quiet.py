"""Whether the machine is quiet enough to take times."""

import time

from ft.machine.system import Others


def others_share(seconds: float) -> float:
    """Of all processors' time in the next seconds, what other processes take; 0 where the system does not say."""
    watch = Others()
    time.sleep(seconds)
    return watch.share()
