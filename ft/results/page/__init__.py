"""The page of a report: a template, a style sheet and a script, which end up in one file that opens offline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def render(content: Mapping[str, Any]) -> str:
    """The whole page; every name and path in it is escaped.

    Args:
        content: What ``ft.results.report.content`` gives.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Ours, and figures of matplotlib's, which escapes the text in them.
    environment.filters["drawn"] = Markup
    own = {name: Markup((HERE / name).read_text(encoding="utf-8")) for name in ("style.css", "sort.js")}
    return environment.get_template("report.html.jinja").render(
        **content, style=own["style.css"], script=own["sort.js"]
    )
