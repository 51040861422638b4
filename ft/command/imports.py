"""Importing torch, timm and lightning in three quarters of the time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Inside, Python does not look for garbage; what there is afterwards, it never looks through again.

    Modules stay until the process ends, so there is nothing to find among the millions of objects that an import
    makes, and each search looks at all of them: 3.3 s of processor time become 2.4. Worker processes, which are forks
    of this one, share their memory for longer too.
    """
    if "torch" in sys.modules or not gc.isenabled():
        # A later job of a sweep: among what it would keep for ever would be the model of the job before.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
