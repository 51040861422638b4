"""Cutting a model at a stage: what lies before can be computed once while it is frozen, what lies after trains.

    images -> stem -> stage1 -> stage2 -> | -> stage3 -> stage4 -> pool -> head -> logits
              ......... prefix ........      ............. suffix .............

Only the code around the stages is traced (torch.fx); each module that lies in one stage is run as it is, with its own
mode and its own dropout rates. The cut is before the first operation that uses a parameter of the boundary or of a
stage above it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from ft.model.graph import cut_at, first_of, in_eval_mode, traced, varying_positions
from ft.model.stages import Stage

Activations = Tensor | tuple[Tensor, ...]


class Prefix:
    """Images to what crosses the cut, always as in eval mode: it is frozen.

    Args:
        part: Images to everything that crosses.
        varying: Which of it depends on the images; the rest is constant.
    """

    def __init__(self, part: fx.GraphModule, varying: Sequence[int]) -> None:
        self.part = part
        self.varying = varying

    def __call__(self, images: Tensor) -> Activations:
        """``(B, C, H, W)`` normalised images to one tensor ``(B, ...)``, or to several."""
        crossing = self.part(images)
        kept = tuple(crossing[at] for at in self.varying)
        return kept[0] if len(kept) == 1 else kept


class Suffix:
    """What crosses the cut to logits ``(B, K)``, in the modes that the model's modules are in.

    Args:
        model: The whole.
        trace: Cuts it anew: to ``(prefix, suffix)``.
        crossing: What crossed for a probe; what does not vary is taken from here.
        varying: Which of it depends on the images.
    """

    def __init__(self, model: nn.Module, trace: Callable[[], Any], crossing: Sequence[Any], varying: Sequence[int]):
        self.trace = trace
        self.constants = {at: value for at, value in enumerate(crossing) if at not in varying}
        self.varying = varying
        self._traced = _traced_modules(model)
        self._parts: dict[Any, fx.GraphModule] = {}

    def __call__(self, activations: Activations) -> Tensor:
        values = (activations,) if isinstance(activations, Tensor) else activations
        given = {**self.constants, **dict(zip(self.varying, values, strict=True))}
        device = values[0].device
        return self._part()(
            *(value.to(device) if isinstance(value, Tensor) else value for _, value in sorted(given.items()))
        )

    def _part(self) -> fx.GraphModule:
        # Modes and rates of the code around the stages are fixed by tracing: one graph for each that occurs.
        fixed = _fixed_by_tracing(self._traced)
        if fixed not in self._parts:
            self._parts[fixed] = self.trace()[1]
        return self._parts[fixed]


def split(model: nn.Module, stages: Sequence[Stage], boundary: str, probe: Tensor) -> tuple[Prefix, Suffix] | None:
    """Cuts a model before a stage.

    Args:
        model: Images to logits.
        stages: All of its stages.
        boundary: The first stage of the suffix.
        probe: ``(2, C, H, W)``: the parts are compared with the whole on these.

    Returns:
        ``None`` where it cannot be cut: tracing fails, the size of the batch crosses, or the parts do not compute,
        bit for bit, what the whole does.
    """

    def trace() -> tuple[fx.GraphModule, fx.GraphModule]:
        nodes = list(traced(model, stages).nodes)
        return cut_at(model, nodes, first_of(nodes, stages, boundary))

    try:
        with in_eval_mode(model), torch.no_grad():
            before, after = trace()
            crossing, fewer = before(probe), before(probe[:1])
            varying = varying_positions(crossing, fewer)
            if varying is None:
                return None
            suffix = Suffix(model, trace, crossing, varying)
            prefix = Prefix(before, varying)
            same = torch.equal(suffix(prefix(probe)), model(probe)) and torch.equal(after(*crossing), model(probe))
    except torch.OutOfMemoryError:
        raise  # a RuntimeError too, but it says nothing of the model
    except (TraceError, TypeError, RuntimeError, ValueError, AttributeError, NotImplementedError, KeyError):
        # Whatever tracing or running a traced part raises means the same: this model goes on uncut.
        return None
    return (prefix, suffix) if same else None


def _traced_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those whose own code is traced: they lie in no stage."""
    owned = {name for stage in getattr(model, "stages")() for name in stage.modules}  # noqa: B009 - not nn.Module's
    return [(name, module) for name, module in model.named_modules() if name not in owned]


def _fixed_by_tracing(modules: Sequence[tuple[str, nn.Module]]) -> tuple[Any, ...]:
    """Their mode, and numbers such as timm's ``drop_rate``. Asked in every step."""
    return tuple(
        (name, key, value)
        for name, module in modules
        for key, value in sorted(vars(module).items())
        if isinstance(value, bool | float)
    )
