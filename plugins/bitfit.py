"""BitFit: of the backbone only the biases train, and the head as a whole.

    weight matrices, kernels, norm scales      frozen, and the running statistics of BatchNorm with them
    biases, those of norms too                 train

A thousandth of the parameters, for models whose copies have to be small. From Ben Zaken et al. 2022,
https://arxiv.org/abs/2106.10199, section 3. Turn on with ``plugins=[bitfit]``.
"""

from typing import Any, ClassVar

from lightning.pytorch import Trainer
from torch import nn

from ft import FineTuner, Plugin
from ft.model.stages import require_stages, tensors_of

KEY = "plugins.bitfit.stages"


def biases(names: frozenset[str]) -> frozenset[str]:
    """Those of the tensors that are called bias."""
    return frozenset(name for name in names if name.rpartition(".")[2] == "bias")


class Bitfit(Plugin):
    """Trains biases.

    Args:
        stages: In which stages only biases train: ``backbone``, or names.

    Raises:
        UserError: A stage that the model lacks.
    """

    needs_pretrained = True
    exclusive = frozenset({"chooses which tensors of a stage train"})
    neutral: ClassVar = {"stages": []}

    def __init__(self, *, stages: str | list[str]) -> None:
        self.stages = [stages] if isinstance(stages, str) else list(stages)
        self.limited: frozenset[str] = frozenset()

    def prepare(self, module: FineTuner, trainer: Trainer, data: Any) -> None:
        require_stages(self.stages, module.stage_names, KEY, also=("backbone",))
        chosen = module.stage_names[:-1] if "backbone" in self.stages else self.stages
        self.limited = tensors_of(module.model.stages(), chosen)

    def open_tensors(self, open: frozenset[str], model: nn.Module) -> frozenset[str]:
        return (open - self.limited) | biases(open & self.limited)
