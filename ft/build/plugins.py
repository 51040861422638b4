"""From the ``plugins`` config to plugins, in the order of the list."""

import inspect
from collections.abc import Sequence
from typing import Any

from ft.errors import UserError
from ft.instantiate import instantiate, locate
from ft.plugin import Plugin
from ft.rules.rule import Rule


def build_plugins(config: dict[str, Any]) -> list[Plugin]:
    """One plugin for every entry, in order.

    Raises:
        UserError: An entry has no ``_target_`` or is not a plugin, or two plugins claim the same role.
    """
    plugins = []
    for name, entry in (config or {}).items():
        if not isinstance(entry, dict) or "_target_" not in entry:
            raise UserError(
                f"plugins.{name} has settings but is not switched on: add {name} to plugins=[...], or remove them."
            )
        _check_kinds(entry, f"plugins.{name}")
        plugin = instantiate(entry, f"plugins.{name}")
        if not isinstance(plugin, Plugin):
            raise UserError(f"plugins.{name}._target_={entry['_target_']} is not an ft.Plugin.")
        plugin.name = name
        plugins.append(plugin)
    _refuse_shared_roles(plugins)
    return plugins


def useful_plugins(plugins: Sequence[Plugin], config: dict[str, Any]) -> list[Plugin]:
    """Those that make sense on the weights that were found."""
    return [plugin for plugin in plugins if not (plugin.needs_pretrained and has_random_weights(config))]


def has_random_weights(config: dict[str, Any]) -> bool:
    """Whether the backbone starts from random weights, as ``build_model`` has written into the config."""
    return config["model"].get("found") == "random"


def _check_kinds(entry: dict[str, Any], key: str) -> None:
    """Refuses settings that are not what the plugin's annotations say, so that plugins only check ranges."""
    parameters = inspect.signature(locate(entry["_target_"], key)).parameters
    for name, value in entry.items():
        annotation = parameters[name].annotation if name in parameters else inspect.Parameter.empty
        if annotation is not inspect.Parameter.empty:
            Rule(annotation).check(f"{key}.{name}", value)


def _refuse_shared_roles(plugins: Sequence[Plugin]) -> None:
    holders: dict[str, str] = {}
    for plugin in plugins:
        for role in sorted(plugin.exclusive):
            if role in holders:
                raise UserError(
                    f"plugins {holders[role]} and {plugin.name} do not go together: each {role}. "
                    "Keep one of them in plugins=[...]."
                )
            holders[role] = plugin.name
