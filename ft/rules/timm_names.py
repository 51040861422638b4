"""The names of timm's models, read from its source: importing timm takes seconds, and a slip of the fingers none."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ft.errors import UserError, did_you_mean

MODEL = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
# Also those that timm still takes for newer ones, and weights: 'resnet18.a1_in1k'.
QUOTED = re.compile(r"""['"]([a-z][\w]*(?:\.\w+)?)['"]""")


def refuse_unknown_model(name: str, key: str = "model.name") -> None:
    """Refuses what timm's source does not mention; what it does mention is for timm to judge.

    Args:
        name: An architecture, with or without the tag of its weights.
        key: The config key, for the message.

    Raises:
        UserError: Names the nearest.
    """
    models, mentioned, tags = _names()
    architecture, _, tag = name.partition(".")
    if not models:
        return
    if architecture not in models and architecture not in mentioned:
        hint = did_you_mean(architecture, sorted(models)) or f" timm knows {len(models)}."
        raise UserError(f"{key}={name} is not a timm model.{hint}")
    # timm makes some names of weights from others: only a tag that no model has is surely none.
    if tag and tag not in tags and (known := sorted(each for each in mentioned if each.startswith(f"{architecture}."))):
        hint = did_you_mean(name, known) or f" It has {', '.join(known)}."
        raise UserError(f"{key}={name}: timm has no such weights.{hint}")


def model_names() -> list[str]:
    """All architectures."""
    return sorted(_names()[0])


@cache
def _names() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Architectures, all that is quoted, and tags of weights."""
    spec = find_spec("timm")
    models: set[str] = set()
    mentioned: set[str] = set()
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(place, "models").glob("*.py"):
            text = file.read_text(encoding="utf-8")
            models.update(MODEL.findall(text))
            mentioned.update(QUOTED.findall(text))
    tags = {each.partition(".")[2] for each in mentioned}
    return frozenset(models), frozenset(mentioned), frozenset(tags)
