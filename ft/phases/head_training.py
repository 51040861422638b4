"""A head trained on stored features in one go: no loader, no step of Lightning's, no log.

Everything that makes a step of the whole model slow is left out: on a few thousand images the whole training takes
about a second. It is ``ft.phases.many_heads`` with one head.
"""

from torch import Tensor, nn

from ft.data.randomness import seeded
from ft.phases.many_heads import HeadTraining, Mix, Soften, train_heads


def train_head(
    head: nn.Module,
    features: Tensor,
    targets: Tensor,
    how: HeadTraining,
    *,
    mix: Mix | None,
    soften: Soften,
    steps: int,
    batch_size: int,
    seed: int,
) -> None:
    """Trains one head in place; the arguments are those of ``train_heads``."""
    train_heads([head], features, targets, [how], soften=soften, steps=steps, batch_size=batch_size, seed=seed, mix=mix)


def draw_weights(head: nn.Module, *, seed: int) -> None:
    """New weights, as each layer draws them, from the seed alone: not from what was built before this head.

    Args:
        head: Its layers draw again what they have drawn when they were made.
        seed: Of the run.
    """
    with seeded(seed, "head weights"):
        for layer in head.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
