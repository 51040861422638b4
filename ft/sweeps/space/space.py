"""The search space: which keys vary, between which values, and under which conditions.

    optimizer=adam,sgd                                  one of these; choice(...) and glob(...) likewise
    model.head.hidden=[],[256]                          values may be lists
    recipe.always=range(1, 5)                           1, 2, 3, 4; range(0.0, 0.5, 0.1): 0.0, 0.1, ... 0.4
    data.batch_size=interval(8, 64)                     whole numbers, as both ends are written as such
    optimizer.lr=tag(log, interval(1e-4, 1e-1))         any number, as many below 1e-3 as between 1e-3 and 1e-2

Hydra's own syntax, on the command line and as text in the section ``sweep.space`` of a config. There a parameter may
also have a condition: it is searched only where others have certain values.

    sweep:
      space:
        optimizer: choice(adam, nadam, sgd)
        optimizer.momentum: {range: "interval(0.8, 0.99)", when: {optimizer: sgd}}
        optimizer.lr:                # several ranges, where one condition or the other holds
          - {range: "tag(log, interval(1e-4, 1e-2))", when: {optimizer: [adam, nadam]}}
          - {range: "tag(log, interval(3e-3, 3e-1))", when: {optimizer: sgd}}
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from ft.errors import UserError
from ft.sweeps.space.conditions import as_conditions, check_conditions, in_order, without
from ft.sweeps.space.overrides import as_overrides
from ft.sweeps.space.parameters import Parameter, Space
from ft.sweeps.space.read_parameter import parse, read_parameter

__all__ = ["Parameter", "Space", "as_overrides", "read_space"]


def read_space(arguments: Sequence[str], in_config: Mapping[str, Any], loader: ConfigLoader) -> tuple[Space, list[str]]:
    """The space of a config, as the command line changes it.

    What has several values on the command line joins the space, or takes the place of the entry of the same key; what
    has one value there leaves the space, and so does ``~key``.

    Args:
        arguments: Words of the command line.
        in_config: ``sweep.space``: key to text, to ``{range: text, when: {key: value or [values]}}``, or to
            several of these.
        loader: Hydra's; knows what ``glob`` stands for.

    Returns:
        The space, and the words that are not part of it, in order.

    Raises:
        OverrideParseException: Hydra cannot read a word of the command line.
        UserError: A parameter has no values, or its condition cannot hold.
    """
    parser = OverridesParser.create(config_loader=loader)
    found = {name: parameter for key, entry in in_config.items() for name, parameter in _of_config(key, entry, parser)}
    check_conditions(found)
    rest: list[str] = []
    for override in parser.parse_overrides(list(arguments)):
        name = bare(override.get_key_element())
        before = [found.pop(each) for each in [each for each in found if bare(found[each].key) == name]]
        if override.is_sweep_override():
            parameter = read_parameter(override)
            if len(before) == 1:
                parameter = replace(parameter, when=before[0].when)
            found[name] = parameter
            if before:
                found = without(found, name, parameter.values() if parameter.is_listed else None)
        elif before and override.is_delete():
            found = without(found, name, [])
        else:
            rest.append(override.input_line or "")
            if before:
                found = without(found, name, [override.value()], fixed=True)
    return Space(tuple(in_order(found))), rest


def bare(key: str) -> str:
    """A key without what says that it is added."""
    return key.lstrip("+~")


def _of_config(key: str, entry: Any, parser: OverridesParser) -> Iterator[tuple[str, Parameter]]:
    """Parameters with their names: the first one's is its key."""
    entries = entry if isinstance(entry, list) else [entry]
    if not entries or (len(entries) > 1 and not all(isinstance(each, Mapping) and "when" in each for each in entries)):
        raise UserError(f"sweep.space.{key} is a list: each of its entries must be {{range: ..., when: ...}}.")
    for number, each in enumerate(entries):
        yield bare(key) if number == 0 else f"{bare(key)} ({number + 1})", _range_of_config(key, each, parser)


def _range_of_config(key: str, entry: Any, parser: OverridesParser) -> Parameter:
    place = f"sweep.space.{key}"
    conditional = isinstance(entry, Mapping)
    if conditional and not ({"range"} <= entry.keys() <= {"range", "when"}):
        raise UserError(f"{place} has the keys {', '.join(entry)}: it takes range, and when for a condition.")
    text = entry["range"] if conditional else entry
    if not isinstance(text, str):
        raise UserError(f"{place} must be a text such as 'choice(a, b)' or 'interval(0.0, 1.0)', got {text!r}.")
    override: Override = parse(key, text, parser)
    if not override.is_sweep_override():
        raise UserError(f"{place}={text} has one value: that is no search. Put {key}={text} into sweep.overrides.")
    when = as_conditions(entry.get("when"), place) if conditional else {}
    return replace(read_parameter(override), when=when)
