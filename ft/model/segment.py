"""What lies between boundaries: one pass gives what crosses each of several."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ft.model.graph import between, cut_at, first_of, in_eval_mode, traced, varying_positions
from ft.model.split import Activations
from ft.model.stages import Stage


class Segment:
    """From images, or from what crosses one boundary, to what crosses later ones, in one pass and as in eval mode.

    Args:
        part: To everything that crosses each of ``stops``, one after another.
        given: Constants of its input, by position; empty where it starts from images.
        entering: Which of its input depends on the images.
        varying: For each stop, which of what crosses it depends on the images.
    """

    def __init__(
        self,
        part: fx.GraphModule,
        given: Mapping[int, Any],
        entering: Sequence[int],
        varying: Mapping[str, Sequence[int]],
    ) -> None:
        self.part = part
        self.given = given
        self.entering = entering
        self.varying = varying

    def __call__(self, activations: Activations) -> dict[str, Activations]:
        """By stop: one tensor ``(B, ...)``, or several."""
        values = (activations,) if isinstance(activations, Tensor) else activations
        given = {**self.given, **dict(zip(self.entering, values, strict=True))}
        found = self.part(*(value for _, value in sorted(given.items())))
        kept = {stop: tuple(found[stop][at] for at in positions) for stop, positions in self.varying.items()}
        return {stop: values[0] if len(values) == 1 else values for stop, values in kept.items()}


def segment(
    model: nn.Module, stages: Sequence[Stage], start: str | None, stops: Sequence[str], probe: Tensor
) -> Segment | None:
    """What lies between boundaries: one pass gives what crosses each of several.

    Args:
        model: Images to logits.
        stages: All of its stages.
        start: The boundary from whose activations it starts; ``None`` for images.
        stops: Boundaries after ``start``.
        probe: ``(2, C, H, W)``: tells which of what crosses depends on the images.

    Returns:
        ``None`` where the model cannot be cut, as ``split`` finds out for each boundary.
    """
    with in_eval_mode(model), torch.no_grad():
        graph = traced(model, stages)
        nodes = list(graph.nodes)
        cuts = {stop: first_of(nodes, stages, stop) for stop in stops}
        varying, given, entering = {}, {}, [0]
        for boundary in [*([start] if start else []), *stops]:
            before, _ = cut_at(model, nodes, first_of(nodes, stages, boundary))
            crossing, fewer = before(probe), before(probe[:1])
            found = varying_positions(crossing, fewer)
            if found is None:
                return None
            if boundary == start:
                entering = found
                given = {at: value for at, value in enumerate(crossing) if at not in found}
            else:
                varying[boundary] = found
        part = between(model, nodes, first_of(nodes, stages, start) if start else None, cuts)
    return Segment(part, given, entering, varying)
