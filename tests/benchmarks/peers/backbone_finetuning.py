"""Lightning's ``BackboneFinetuning`` as its documentation uses it, in 8 epochs.

Adam at 1e-3 on the head alone; from epoch 2 on the backbone too, at a tenth of that, times 1.5 every epoch until it has
caught up. The example in the documentation opens it at epoch 10.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BackboneFinetuning

from tests.benchmarks.peers.common import Cell
from tests.benchmarks.peers.lightning_peer import run_lightning

PHASES = (2, 6)
RATE = 1e-3


def run(cell: Cell) -> dict[str, Any]:
    def callbacks(lengths: Sequence[int]) -> list[Callback]:
        return [
            BackboneFinetuning(
                unfreeze_backbone_at_epoch=lengths[0], lambda_func=lambda epoch: 1.5, backbone_initial_ratio_lr=0.1
            )
        ]

    def optimizer(module: Any) -> torch.optim.Optimizer:
        # Not all that require a gradient: the callback leaves BatchNorm among them, and adds it when it opens the rest.
        return torch.optim.Adam(module.head.parameters(), lr=RATE)

    return run_lightning(cell, PHASES, callbacks, optimizer, {"rate": RATE, "lambda": 1.5, "initial_ratio": 0.1})
