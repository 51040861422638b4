"""pyproject.toml of a fork: its own name, version and description, and a record of what it came from."""

import re
import tomllib

from ft.errors import UserError

VERSION = "0.1.0"
DESCRIPTION = "Fine-tunes pretrained timm backbones; a fork of {template}."
RECORD = """
# What this fork began as: sha256 is ft.fork.tree_hash.tree_hash("ft") of that day.
[tool.ft.template]
name = "{template}"
version = "{version}"
sha256 = "{sha256}"
"""


def own_metadata(project: str, *, name: str, template: str, version: str, sha256: str) -> str:
    """Rewrites the text, so that comments and order stay.

    Args:
        project: The template's pyproject.toml.
        name: Of the fork.
        template: Name of the template.
        version: Of the template's ``ft``.
        sha256: Of the template's ``ft``.

    Raises:
        UserError: ``project`` does not say its name, version and description each on a line of its own.
    """
    own = {"name": name, "version": VERSION, "description": DESCRIPTION.format(template=template)}
    # Extras that include others of the same distribution.
    text = project.replace(f'"{template}[', f'"{name}[')
    for key, value in own.items():
        text = re.sub(rf'^{key} = ".*"$', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
    text = _without_record(text) + RECORD.format(template=template, version=version, sha256=sha256)
    found = tomllib.loads(text)["project"]
    if wrong := [key for key, value in own.items() if found.get(key) != value]:
        raise UserError(f'pyproject.toml must have {wrong[0]} = "..." on a line of its own, first in [project].')
    return text


def _without_record(text: str) -> str:
    """Without the record that a fork's fork inherits: there is one."""
    return re.sub(r"\n(#[^\n]*\n)?\[tool\.ft\.template\]\n([^\[\n][^\n]*\n)*", "", text)
