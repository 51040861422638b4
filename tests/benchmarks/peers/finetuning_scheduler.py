"""finetuning-scheduler (needs ``pip install finetuning-scheduler==2.14.1``) with a schedule of three phases.

The schedule it generates by itself has a phase for every two tensors and moves on when the loss has stopped falling, so
that 8 epochs would see only the head. This one is of the form that its documentation recommends to make from it: head,
then the upper part, then everything, moved on by the epoch. The rest is the callback's default: the best checkpoint is
restored between phases, and a frozen BatchNorm follows the statistics of the new images. The head's rate is 1e-3, that
of what opens later the one that was chosen for full fine-tuning, in place of the default of 1e-5, which suits
transformers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback

from tests.benchmarks.peers.common import Cell
from tests.benchmarks.peers.lightning_peer import run_lightning

PHASES = (2, 3, 3)
RATE = 1e-3
UPPER = r"backbone\.(conv_head|bn2|blocks\.[56])\..*"
LOWER = r"backbone\.(conv_stem|bn1|blocks\.[0-4])\..*"


def run(cell: Cell) -> dict[str, Any]:
    # In its own environment; the other peers run without it.
    from finetuning_scheduler import FinetuningScheduler  # pyright: ignore[reportMissingImports]

    def callbacks(lengths: Sequence[int]) -> list[Callback]:
        ends = [sum(lengths[: phase + 1]) for phase in range(len(lengths))]
        schedule = {
            phase: {"params": [pattern], "max_transition_epoch": end}
            for phase, (pattern, end) in enumerate(zip((r"head\..*", UPPER, LOWER), ends, strict=True))
        }
        return [
            FinetuningScheduler(
                ft_schedule=schedule, epoch_transitions_only=True, base_max_lr=cell.rate, logging_level=40
            )
        ]

    def optimizer(module: Any) -> torch.optim.Optimizer:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=RATE, weight_decay=0.05)

    return run_lightning(cell, PHASES, callbacks, optimizer, {"rate": RATE, "later_rate": cell.rate})
