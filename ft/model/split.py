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
from timm.layers import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

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
        self.model = model
        self.trace = trace
        self.constants = {at: value for at, value in enumerate(crossing) if at not in varying}
        self.varying = varying
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
        fixed = _fixed_by_tracing(self.model)
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
    names = [stage.name for stage in stages]
    above = stages[names.index(boundary) :]

    def trace() -> tuple[fx.GraphModule, fx.GraphModule]:
        return _cut(model, stages, above)

    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            before, after = trace()
            crossing, fewer = before(probe), before(probe[:1])
            varying = _varying(crossing, fewer)
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
    finally:
        for module, mode in modes:
            module.training = mode
    return (prefix, suffix) if same else None


def _varying(crossing: Sequence[Any], fewer: Sequence[Any]) -> list[int] | None:
    """Positions of what depends on the images; ``None`` if something depends on how many there are.

    Args:
        crossing: What crosses for two images.
        fewer: What crosses for the first of them.
    """
    found = []
    for at, (two, one) in enumerate(zip(crossing, fewer, strict=True)):
        if isinstance(two, Tensor):
            if two.shape != one.shape and two.shape[:1] == (2,) and one.shape[:1] == (1,):
                found.append(at)
            elif not (two.shape == one.shape and torch.equal(two, one)):
                return None
        elif two != one:
            return None
    return found or None


class _Tracer(fx.Tracer):
    """Steps only into modules that hold several stages."""

    def __init__(self, inside: set[str]) -> None:
        functions: Any = get_notrace_functions()
        super().__init__(autowrap_functions=tuple(functions))
        self.inside = inside

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.inside or isinstance(m, tuple(get_notrace_modules()))


def _cut(model: nn.Module, stages: Sequence[Stage], above: Sequence[Stage]) -> tuple[fx.GraphModule, fx.GraphModule]:
    graph = _Tracer({name for stage in stages for name in stage.modules}).trace(model)
    nodes = list(graph.nodes)
    tensors = {name for stage in above for name in stage.parameters}
    modules = {name.rpartition(".")[0] for name in tensors}

    def belongs(node: fx.Node) -> bool:
        target = str(node.target)
        if node.op == "get_attr":
            return target in tensors
        return node.op == "call_module" and any(name == target or name.startswith(f"{target}.") for name in modules)

    first = next(at for at, node in enumerate(nodes) if belongs(node))
    before = set(nodes[:first])
    crossing = [node for node in nodes[:first] if any(user not in before for user in node.users)]

    one, copies = fx.Graph(), {}
    for node in nodes[:first]:
        copies[node] = one.node_copy(node, copies.__getitem__)
    one.output(tuple(copies[node] for node in crossing))

    two, copies = fx.Graph(), {}
    for node in crossing:
        copies[node] = two.placeholder(node.name)
    for node in nodes[first:]:
        copies[node] = two.node_copy(node, copies.__getitem__)
    prefix, suffix = fx.GraphModule(model, one), fx.GraphModule(model, two)
    prefix.graph.eliminate_dead_code()
    prefix.recompile()
    return prefix, suffix


def _fixed_by_tracing(model: nn.Module) -> tuple[Any, ...]:
    """Mode, and numbers such as timm's ``drop_rate``, of the modules whose own code is traced."""
    owned = {name for stage in getattr(model, "stages")() for name in stage.modules}  # noqa: B009 - not nn.Module's
    return tuple(
        (name, key, value)
        for name, module in model.named_modules()
        if name not in owned
        for key, value in sorted(vars(module).items())
        if isinstance(value, bool | float)
    )
