"""The graph of a model with its stages as single operations, and parts of it (torch.fx)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn

from ft.model.stages import Stage


def varying_positions(crossing: Sequence[Any], fewer: Sequence[Any]) -> list[int] | None:
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


def traced(model: nn.Module, stages: Sequence[Stage]) -> fx.Graph:
    """The graph of a model whose stages are single operations."""
    return _Tracer({name for stage in stages for name in stage.modules}).trace(model)


def first_of(nodes: Sequence[fx.Node], stages: Sequence[Stage], boundary: str) -> int:
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


def crossing_nodes(nodes: Sequence[fx.Node], cut: int) -> list[fx.Node]:
    """Operations before a position whose results are used from there on."""
    before = set(nodes[:cut])
    return [node for node in nodes[:cut] if any(user not in before for user in node.users)]


def cut_at(model: nn.Module, nodes: Sequence[fx.Node], cut: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """What is before a position, giving everything that crosses, and what is from there on."""
    crossing = crossing_nodes(nodes, cut)
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


def between(model: nn.Module, nodes: Sequence[fx.Node], start: int | None, cuts: Mapping[str, int]) -> fx.GraphModule:
    """From a position, or from the images, to everything that crosses each of the cuts."""
    graph, copies = fx.Graph(), {}
    for node in crossing_nodes(nodes, start) if start is not None else []:
        copies[node] = graph.placeholder(node.name)
    for node in nodes[start or 0 : max(cuts.values())]:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output({stop: tuple(copies[node] for node in crossing_nodes(nodes, cut)) for stop, cut in cuts.items()})
    part = fx.GraphModule(model, graph)
    part.graph.eliminate_dead_code()
    part.recompile()
    return part


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside, every module is in eval mode; afterwards each is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
