"""What an exported model puts out, so that a plain process reads it right.

    classes, labels   logits / temperature         softmax or sigmoid of them is calibrated, the best class stays
    numbers           logits * std + mean          in the data's own unit

Both are one factor and one shift an output, which a last linear layer takes up for nothing.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ft.inference.reading import LINEAR, Reading

FOLD, STORE = "fold", "store"


@dataclass(frozen=True)
class Outputs:
    """``outputs = factor * logits + shift``.

    Attributes:
        factor: ``(K,)`` doubles.
        shift: ``(K,)`` doubles.
        reading: What the outputs mean.
    """

    factor: Tensor
    shift: Tensor
    reading: Reading

    def of(self, logits: Tensor) -> Tensor:
        """``(B, K)`` logits of the trained model to ``(B, K)`` outputs, in doubles."""
        return logits.double() * self.factor + self.shift

    @property
    def are_logits(self) -> bool:
        """Whether nothing changes."""
        return bool((self.factor == 1).all() and (self.shift == 0).all())


def outputs_of(reading: Reading, *, temperature: str) -> Outputs:
    """What an exported model puts out.

    Args:
        reading: Of the trained model's logits.
        temperature: ``fold`` it into the outputs, or ``store`` it beside them.
    """
    ones = torch.ones(len(reading.classes), dtype=torch.float64)
    if reading.activation == LINEAR:
        factor = ones if reading.std is None else torch.tensor(reading.std, dtype=torch.float64)
        shift = ones * 0 if reading.mean is None else torch.tensor(reading.mean, dtype=torch.float64)
        return Outputs(factor, shift, replace(reading, mean=None, std=None))
    if temperature == STORE:
        return Outputs(ones, ones * 0, reading)
    return Outputs(ones / reading.temperature, ones * 0, replace(reading, temperature=1.0))
