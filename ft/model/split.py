"""Cutting a model at a stage: what lies before can be computed once while it is frozen, what lies after trains.

    images -> stem -> stage1 -> stage2 -> | -> stage3 -> stage4 -> pool -> head -> logits
              ......... prefix ........      ............. suffix .............

Only the code around the stages is traced (torch.fx); each module that lies in one stage is run as it is, with its own
mode and its own dropout rates. The cut is before the first operation that uses a parameter of the boundary or of a
stage above it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        nodes = list(_traced(model, stages).nodes)
        return _cut_at(model, nodes, _first_of(nodes, stages, boundary))

    try:
        with _in_eval_mode(model), torch.no_grad():
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
    with _in_eval_mode(model), torch.no_grad():
        graph = _traced(model, stages)
        nodes = list(graph.nodes)
        cuts = {stop: _first_of(nodes, stages, stop) for stop in stops}
        varying, given, entering = {}, {}, [0]
        for boundary in [*([start] if start else []), *stops]:
            before, _ = _cut_at(model, nodes, _first_of(nodes, stages, boundary))
            crossing, fewer = before(probe), before(probe[:1])
            found = _varying(crossing, fewer)
            if found is None:
                return None
            if boundary == start:
                entering = found
                given = {at: value for at, value in enumerate(crossing) if at not in found}
            else:
                varying[boundary] = found
        part = _between(model, nodes, _first_of(nodes, stages, start) if start else None, cuts)
    return Segment(part, given, entering, varying)


class _Tracer(fx.Tracer):
    """Steps only into modules that hold several stages."""

    def __init__(self, inside: set[str]) -> None:
        functions: Any = get_notrace_functions()
        super().__init__(autowrap_functions=tuple(functions))
        self.inside = inside

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.inside or isinstance(m, tuple(get_notrace_modules()))


def _traced(model: nn.Module, stages: Sequence[Stage]) -> fx.Graph:
    return _Tracer({name for stage in stages for name in stage.modules}).trace(model)


def _first_of(nodes: Sequence[fx.Node], stages: Sequence[Stage], boundary: str) -> int:
    """Position of the first operation that uses a parameter of a stage or of one above it."""
    above = stages[[stage.name for stage in stages].index(boundary) :]
    tensors = {name for stage in above for name in stage.parameters}
    modules = {name.rpartition(".")[0] for name in tensors}

    def belongs(node: fx.Node) -> bool:
        target = str(node.target)
        if node.op == "get_attr":
            return target in tensors
        return node.op == "call_module" and any(name == target or name.startswith(f"{target}.") for name in modules)

    return next(at for at, node in enumerate(nodes) if belongs(node))


def _crossing(nodes: Sequence[fx.Node], cut: int) -> list[fx.Node]:
    before = set(nodes[:cut])
    return [node for node in nodes[:cut] if any(user not in before for user in node.users)]


def _cut_at(model: nn.Module, nodes: Sequence[fx.Node], cut: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """What is before a position, giving everything that crosses, and what is from there on."""
    crossing = _crossing(nodes, cut)
    one, copies = fx.Graph(), {}
    for node in nodes[:cut]:
        copies[node] = one.node_copy(node, copies.__getitem__)
    one.output(tuple(copies[node] for node in crossing))

    two, copies = fx.Graph(), {}
    for node in crossing:
        copies[node] = two.placeholder(node.name)
    for node in nodes[cut:]:
        copies[node] = two.node_copy(node, copies.__getitem__)
    prefix, suffix = fx.GraphModule(model, one), fx.GraphModule(model, two)
    prefix.graph.eliminate_dead_code()
    prefix.recompile()
    return prefix, suffix


def _between(model: nn.Module, nodes: Sequence[fx.Node], start: int | None, cuts: Mapping[str, int]) -> fx.GraphModule:
    """From a position, or from the images, to everything that crosses each of the cuts."""
    graph, copies = fx.Graph(), {}
    for node in _crossing(nodes, start) if start is not None else []:
        copies[node] = graph.placeholder(node.name)
    for node in nodes[start or 0 : max(cuts.values())]:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output({stop: tuple(copies[node] for node in _crossing(nodes, cut)) for stop, cut in cuts.items()})
    part = fx.GraphModule(model, graph)
    part.graph.eliminate_dead_code()
    part.recompile()
    return part


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


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
