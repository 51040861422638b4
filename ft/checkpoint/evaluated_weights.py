"""A second set of weights that validation and checkpoints use in place of the ones that train.

    train w, w, w ...        average a of what w has been
    validate with a          `best` and `last` hold a as weights.safetensors: what was measured is what is kept
    resume                   w comes from beside a, in the checkpoint's state

For plugins that average weights; they decide when and with which share.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

TRAINED = "trained_weights"


class EvaluatedWeights:
    """The average of a model's parameters and buffers; empty until the first update."""

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self, model: nn.Module, share: float) -> None:
        """``average += share * (weights - average)``; what is not a float is copied.

        Args:
            model: Its parameters and buffers are averaged.
            share: Of the new weights, in ``[0, 1]``; the first update copies.
        """
        for name, value in model.state_dict().items():
            if name not in self.average or share == 1 or not value.is_floating_point():
                self.average[name] = value.detach().clone()
            else:
                self.average[name] = self.average[name].to(value.device).lerp_(value, share)

    def swap_in(self, model: nn.Module) -> None:
        """Puts the average into the model, and keeps what was there."""
        if self.average:
            self._trained = {name: value.detach().clone() for name, value in model.state_dict().items()}
            model.load_state_dict(self.average)

    def swap_out(self, model: nn.Module) -> None:
        """Puts the weights that train back."""
        if self._trained is not None:
            model.load_state_dict(self._trained)
            self._trained = None

    def write(self, checkpoint: dict[str, Any], model: nn.Module) -> None:
        """Makes the average the checkpoint's weights; to be called in ``on_save_checkpoint``."""
        if self.average:
            checkpoint[TRAINED] = {name: value.detach().clone() for name, value in model.state_dict().items()}
            for name, value in self.average.items():
                checkpoint["state_dict"][f"model.{name}"] = value

    def read(self, checkpoint: Mapping[str, Any], model: nn.Module) -> None:
        """The other way round; to be called in ``on_load_checkpoint``."""
        if TRAINED in checkpoint:
            self.average = {name: checkpoint["state_dict"][f"model.{name}"].clone() for name in checkpoint[TRAINED]}
            model.load_state_dict(checkpoint[TRAINED])
        else:
            # One of before there was an average: a run that goes back to it has had one meanwhile.
            self.average = {}
