"""What every page that ft writes shares: one file that opens offline, its style and script, its figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def render(template: Path, content: Mapping[str, Any]) -> str:
    """The whole page; every name and path in it is escaped.

    Args:
        template: Of Jinja; it gets ``style`` and ``script`` besides its content, and may import ``parts.jinja``.
        content: What it shows.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Ours, and figures of matplotlib's, which escapes the text in them.
    environment.filters["drawn"] = Markup
    own = {name: Markup((HERE / name).read_text(encoding="utf-8")) for name in ("style.css", "sort.js")}
    return environment.get_template(template.name).render(**content, style=own["style.css"], script=own["sort.js"])
