"""Libraries that tell of their every step, kept to what is wrong."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

TALKATIVE = ("timm", "onnxscript", "onnx_ir", "torch.onnx", "httpx")


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, they tell warnings and errors only: a verb's console shows everything from INFO on."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
