"""All values of a composed config at once, before torch is imported and before any data is touched."""

from collections.abc import Mapping
from typing import Any

from ft.errors import UserError, did_you_mean
from ft.kinds import fits, is_choice
from ft.rules.recipe import refuse_wrong_recipe
from ft.rules.rule import Rule
from ft.rules.signatures import parameters
from ft.rules.table import TABLE
from ft.rules.timm_names import refuse_unknown_model

# Sections that are handed to their target as they are; lists of these have a target each.
OF_A_TARGET = ("model", "data", "task", "schedule")
LISTS_OF_TARGETS = ("plugins", "logger")
TIMM_MODEL = "ft.model.timm_model.timm_model"
MISSING = object()


def check_values(config: Mapping[str, Any], verb: str) -> None:
    """Refuses what no run could begin with.

    Args:
        config: Resolved.
        verb: Of the command line: ``train``.

    Raises:
        UserError: Names the key, the value and what it must be.
    """
    for key, rule in TABLE.get(verb, {}).items():
        value = _at(config, key)
        if value is not MISSING and value != "???":
            _check(key, value, rule)
    if isinstance(config.get("recipe"), Mapping):
        refuse_wrong_recipe(config["recipe"])
    sections = {name: config.get(name) for name in OF_A_TARGET}
    for name in LISTS_OF_TARGETS:
        entries = config.get(name)
        if isinstance(entries, Mapping):
            sections |= {f"{name}.{entry}": settings for entry, settings in entries.items()}
    for key, settings in sections.items():
        if isinstance(settings, Mapping) and isinstance(settings.get("_target_"), str):
            _check_arguments(key, settings, all_known=key.partition(".")[0] == "plugins")
    model = config.get("model")
    if isinstance(model, Mapping) and model.get("_target_") == TIMM_MODEL and isinstance(model.get("name"), str):
        refuse_unknown_model(model["name"])


def _check(key: str, value: Any, rule: Rule) -> None:
    if isinstance(value, list) and is_choice(rule.kind) and not fits(value, rule.kind):
        # Of a list, the entry that is wrong.
        for entry in value:
            rule.check(key, entry)
    rule.check(key, value)


def _check_arguments(key: str, settings: Mapping[str, Any], *, all_known: bool) -> None:
    takes = parameters(settings["_target_"])
    if takes is None:
        return
    for name, value in settings.items():
        if name in takes:
            _check(f"{key}.{name}", value, Rule(takes[name]))
        elif all_known and name != "_target_":
            raise UserError(
                f"{key}.{name}: {settings['_target_'].rpartition('.')[2]} has no such argument; it takes "
                f"{', '.join(takes)}.{did_you_mean(name, takes)}"
            )


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return MISSING
        config = config[part]
    return config
