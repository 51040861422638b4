"""The training set as a full-batch optimizer walks it: as features computed once while the backbone is frozen."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ft.data.batch import Batch
from ft.data.whole_set import WholeSet
from ft.optim.full_batch import Pair, evaluate
from ft.phases.plan import HEAD


class WholeSetInputs:
    """Gives the same inputs and targets, in the same order, at every walk.

    Args:
        model: Follows the model's protocol.
        prepare: Moves a batch to the device and normalises it.
    """

    def __init__(self, model: object, prepare: Callable[[Batch], Batch]) -> None:
        self.model = model
        self.prepare = prepare
        self._features: list[Pair] | None = None
        self._num_images: int | None = None

    def step(
        self,
        whole_set: WholeSet,
        boundary: str,
        optimizer: Any,
        loss: Callable[[Tensor, Tensor], Tensor],
        l2: Sequence[tuple[float, list[Tensor]]],
    ) -> Tensor:
        """One optimizer step, whose closure walks the whole set as often as the optimizer likes.

        Args:
            whole_set: The training images.
            boundary: The first open stage.
            optimizer: Asks for the objective and its gradients.
            loss: Mean loss of ``(outputs, targets)``.
            l2: From ``full_batch.l2_terms``.

        Returns:
            The objective as the step began.
        """
        pairs, run, num_images = self.get(whole_set, boundary)

        def closure() -> Tensor:
            optimizer.zero_grad()
            return evaluate(pairs(), num_images, lambda x, y: loss(run(x), y), l2)

        objective = torch.as_tensor(optimizer.step(closure))
        optimizer.zero_grad()
        return objective

    def get(
        self, whole_set: WholeSet, boundary: str
    ) -> tuple[Callable[[], Iterator[Pair]], Callable[..., Tensor], int]:
        """What to walk, what to run on it, and how many images it holds.

        Args:
            whole_set: The training images.
            boundary: The first open stage. Below the head everything is then frozen, and its features are computed
                once; elsewhere every walk starts from the images.
        """
        model = self.model
        parts = model.split(boundary) if boundary == HEAD else None  # pyright: ignore[reportAttributeAccessIssue]
        if parts is None:
            self._features = None
            if self._num_images is None:
                self._num_images = sum(len(batch.index) for batch in whole_set)
            return lambda: self._images(whole_set), model, self._num_images  # pyright: ignore[reportReturnType]
        prefix, suffix = parts
        if self._features is None:
            with torch.no_grad():
                self._features = [(prefix(images), targets) for images, targets in self._images(whole_set)]
        features = self._features
        return lambda: iter(features), suffix, sum(len(targets) for _, targets in features)

    def _images(self, whole_set: WholeSet) -> Iterator[Pair]:
        for batch in whole_set:
            ready = self.prepare(batch)
            if len(ready.index):
                yield ready.images, ready.targets
