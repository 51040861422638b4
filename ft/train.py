"""``python -m ft.train``: fine-tune a model; ``--help`` lists the choices."""

import time
from typing import TYPE_CHECKING

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(config: "DictConfig") -> float | None:
    """Trains, tests the best checkpoint, and returns the task's metric, for sweepers."""
    started = time.time()  # before the imports: they are part of what the user waits for
    with heavy_imports():
        from ft.build.run import build
        from ft.fit import fit

    return fit(build(config, started=started), started=started)


if __name__ == "__main__":
    run_verb(train, "train")
