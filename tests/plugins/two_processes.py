"""Run by torchrun: every unfreezing plugin in turn in one pair of processes, which must end with equal weights.

torchrun --nproc-per-node 2 -m tests.plugins.two_processes FOLDER WEIGHTS PLUGIN...
"""

import sys
from pathlib import Path

import torch
import torch.distributed

from ft.fit import fit
from tests.plugins.conftest import Runs, settings

# Stands among the plugins for the default recipe: a solved head, phases on activations that one process has stored.
RECIPE = "recipe"
DEEPENING = ("recipe=auto", "recipe.min_gain=-1", "recipe.phases.0.views=2")


def main(folder: str, weights: str, names: list[str]) -> None:
    """Prints a line for every plugin: the largest difference between the processes, and how much has moved."""
    runs = Runs(Path(folder), Path(weights))
    for name in names:
        chosen = DEEPENING if name == RECIPE else settings(name)
        run = runs.build(*chosen, "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=3",
                         "trainer.max_epochs=3")  # fmt: skip
        before = {key: value.detach().clone() for key, value in run.module.model.named_parameters()}
        fit(run, started=0.0)
        worst, moved = 0.0, 0
        for key, value in run.module.model.named_parameters():
            other = value.detach().clone()
            torch.distributed.broadcast(other, src=0)
            worst = max(worst, float((value.detach() - other).abs().max()))
            moved += int(not torch.equal(value, before[key]))
        difference = torch.tensor(worst)
        torch.distributed.all_reduce(difference, op=torch.distributed.ReduceOp.MAX)
        if torch.distributed.get_rank() == 0:
            print(f"{name} difference={float(difference):.3g} moved={moved}", flush=True)
    # Its threads would otherwise still run when the interpreter ends, and abort the process now and then.
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
