"""What trains in the epochs to come, as far as it is known now: the recipe's phases, folded through the plugins."""

from collections.abc import Sequence
from typing import Any

from ft.phases.plan import Phase, boundary, open_stages, phase, without_statistics
from ft.phases.recipe import Recipe
from ft.plugin import Plugin

# Beyond so many epochs nobody looks ahead.
MANY_EPOCHS = 1000


class Outlook:
    """Answers by epoch; holds no state of its own.

    Args:
        recipe: What trains when, before the plugins have their say.
        plugins: Folded in this order.
        model: Follows the model's protocol.
    """

    def __init__(self, recipe: Recipe, plugins: Sequence[Plugin], model: Any) -> None:
        self.recipe = recipe
        self.plugins = plugins
        self.model = model
        self.stage_names = tuple(stage.name for stage in model.stages())

    def at(self, epoch: int) -> Phase:
        """What trains during ``epoch``.

        Raises:
            UserError: Nothing is left to train.
        """
        planned, _ = self.recipe.at(epoch)
        found = phase(planned.open, self.plugins, epoch, self.model.stages(), self.model)
        return without_statistics(found, self.model) if self.recipe.frozen_statistics else found

    def boundaries(self, epoch: int, num_epochs: int) -> list[str]:
        """Where the model will be cut, in order, from ``epoch`` to the end of a run of ``num_epochs``."""
        last = max(min(num_epochs, MANY_EPOCHS), epoch)
        opened = [self._open_at(each) for each in range(epoch, last)]
        return list(dict.fromkeys(boundary(each, self.stage_names) for each in opened))

    def check(self, num_epochs: int) -> None:
        """Refuses plugins that leave an epoch with nothing to train.

        Raises:
            UserError: Names the epoch.
        """
        self.at(0)
        for epoch in range(1, min(num_epochs, MANY_EPOCHS)):
            self._open_at(epoch)

    def _open_at(self, epoch: int) -> frozenset[str]:
        return open_stages(self.recipe.at(epoch)[0].open, self.plugins, epoch, self.stage_names)
