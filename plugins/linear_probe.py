"""Linear probing: the backbone is frozen and only the head trains; with ``until_epoch`` everything trains afterwards.

    linear probe          stem  stage1 ... stage4  [head]                          in every epoch
    LP-FT, until_epoch=3  the same in epochs 0, 1, 2; [stem  stage1 ... head]      from epoch 3 on

LP-FT is from Kumar et al. 2022, https://arxiv.org/abs/2202.10054, section 3: a head that fits already distorts the
pretrained features less. Turn on with ``plugins=[linear_probe]``.
"""

from typing import Any, ClassVar

from lightning.pytorch import Trainer

from ft import FineTuner, Plugin, UserError
from ft.errors import require

KEY = "plugins.linear_probe.until_epoch"


def is_probing(epoch: int, *, until_epoch: int | None) -> bool:
    """Whether only the head trains during ``epoch``."""
    return until_epoch is None or epoch < until_epoch


class LinearProbe(Plugin):
    """Closes the backbone.

    Args:
        until_epoch: First epoch in which the backbone trains too, at least 0; ``None`` for never.

    Raises:
        UserError: ``until_epoch`` is below 0, or not below ``trainer.max_epochs``.
    """

    needs_pretrained = True
    neutral: ClassVar = {"until_epoch": 0}

    def __init__(self, *, until_epoch: int | None) -> None:
        require(until_epoch is None or until_epoch >= 0, KEY, "must be null or at least 0", until_epoch)
        self.until_epoch = until_epoch

    def prepare(self, module: FineTuner, trainer: Trainer, data: Any) -> None:
        epochs = trainer.max_epochs or -1
        if self.until_epoch is not None and 0 < epochs <= self.until_epoch:
            raise UserError(
                f"{KEY}={self.until_epoch} is never reached: trainer.max_epochs={epochs}. "
                f"Set it below {epochs}, or to null for a linear probe."
            )

    def open_stages(self, open: frozenset[str], epoch: int, stages: tuple[str, ...]) -> frozenset[str]:
        return open & {stages[-1]} if is_probing(epoch, until_epoch=self.until_epoch) else open
