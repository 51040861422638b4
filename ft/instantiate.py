"""The one place that turns a ``_target_`` into an object; ``ft.allowed_targets`` says what it may name.

A target has to be defined in an allowed package and not merely imported there (``timm.models._helpers.torch.load`` is
torch's, not timm's), and be what belongs at its place in the config.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from ft.allowed_targets import allowed_packages, is_allowed, is_allowed_name, place_of
from ft.errors import UserError, did_you_mean


def check_targets(config: Any, key: str = "") -> None:
    """Looks at every ``_target_`` in a tree before anything is built.

    Raises:
        UserError: Names the first that is not allowed, and its key.
    """
    for where, entry in _targets(config, key):
        target = entry["_target_"]
        if not is_allowed_name(target, where):
            raise UserError(
                f"{where}._target_={_shown(target)} is not allowed: it must be below one of "
                f"{', '.join(allowed_packages(where))}.\n"
                "A fork lists further packages in pyproject.toml, [tool.ft] allowed_targets."
            )
        if odd := [name for name in entry if str(name).startswith("_") and name != "_target_"]:
            raise UserError(f"{where}.{_shown(odd[0])} is not allowed: beside _target_ only plain arguments are.")


def locate(target: str, key: str) -> Callable[..., Any]:
    """The class or function a target names.

    Raises:
        UserError: It is not allowed, does not exist, or is something else.
    """
    check_targets({"_target_": target}, key)
    module_name, _, name = target.rpartition(".")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise UserError(
                f"{key}._target_={target} needs the package {error.name}, which is not installed."
            ) from None
        raise UserError(f"{key}._target_={target}: there is no module {module_name}.") from None
    except ImportError as error:
        raise UserError(f"{key}._target_={target}: {module_name} cannot be imported ({error}).") from None
    found = getattr(module, name, None)
    if found is None:
        raise UserError(f"{key}._target_={target}: {module_name} has no {name}.{did_you_mean(name, dir(module))}")
    if not is_allowed(found, key):
        raise UserError(f"{key}._target_={target} is not {place_of(key).words} that {module_name} defines.")
    return found


def instantiate(config: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Calls a config's target with its other keys, and with what the config cannot know.

    Args:
        config: Plain values, with ``_target_``.
        key: Where the config stands, for messages.
        extra: Further arguments.

    Raises:
        UserError: The target is not allowed, does not take an argument, or refuses a value.
    """
    target = locate(config["_target_"], key)
    arguments = {name: _build(value, f"{key}.{name}") for name, value in config.items() if name != "_target_"}
    _check_arguments(target, arguments, key, extra)
    try:
        return target(**arguments, **extra)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error


def instantiate_later(config: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """The target with its keys bound, to be called with the rest; checked now."""
    arguments = {name: value for name, value in config.items() if name != "_target_"}
    target = locate(config["_target_"], key)
    _check_arguments(target, arguments, key, {})
    return partial(target, **arguments)


def _build(value: Any, key: str) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return instantiate(value, key)
    return value


def _check_arguments(target: Callable[..., Any], given: Mapping[str, Any], key: str, extra: Mapping[str, Any]) -> None:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            known = [each for each in parameters if each not in extra and each != "params"]
            raise UserError(
                f"{key}.{name}: {getattr(target, '__name__', target)} has no such argument; it takes "
                f"{', '.join(known)}.{did_you_mean(name, known)}"
            )


def _targets(config: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield key, config
        for name, value in config.items():
            yield from _targets(value, f"{key}.{name}".lstrip("."))
    elif isinstance(config, list | tuple):
        for at, value in enumerate(config):
            yield from _targets(value, f"{key}[{at}]")


def _shown(target: Any) -> str:
    """As it was given, on one line of a sensible length."""
    text = target if isinstance(target, str) and target.isprintable() else repr(target)
    return text if len(text) <= 100 else f"{text[:97]}..."
