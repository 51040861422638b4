"""One style for every figure of a report: a PNG on white, and an SVG whose ink is the page's, in light and in dark.

Colours: Okabe & Ito 2008, https://jfly.uni-koeln.de/color/: told apart by every kind of colour vision.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
INK, LINE = "#24292f", "#d0d7de"
# What is behind a figure: for words that stand across lines.
CARD = "#fefefe"
# Of the cells of a matrix, which bear white numbers in the dark too.
CELL = "#0b6bb0"
# Those that the page has two of, for light and for dark.
PAGE_COLOURS = {
    "ink": INK,
    "line": LINE,
    "card": CARD,
    "blue": BLUE,
    "orange": ORANGE,
    "green": GREEN,
    "red": RED,
    "purple": PURPLE,
}
# Inches; figures of one width share a font size on the page too, half of it wide or all of it narrow.
WIDTH, HEIGHT = 5.2, 3.0
DPI = 144

SETTINGS: Any = {
    "font.size": 9,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",  # text stays text: it can be read aloud and searched, and takes the page's font
    "svg.hashsalt": "ft",
}


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: Of its file, without the ending.
        alt: What it shows, for those who cannot see it.
        svg: To be put into a page as it is.
    """

    name: str
    alt: str
    svg: str


def draw(
    folder: Path, name: str, alt: str, paint: Callable[[Any], None], *, width: float = WIDTH, height: float = HEIGHT
) -> Plot:
    """Draws a figure, and writes its PNG file.

    Args:
        folder: Of the PNG files.
        name: Of the file, without the ending.
        alt: What the figure shows.
        paint: Gets the axes.
        width: Inches.
        height: Inches.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(SETTINGS):
        # The object interface: pyplot would keep global state, and look for a screen. And the canvases' own methods:
        # savefig draws everything twice.
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
        paint(figure.subplots())
        FigureCanvasAgg(figure).print_png(folder / f"{name}.png")
        figure.set_layout_engine("none")  # it has been found, and would take as long again
        figure.set_facecolor("none")
        written = io.StringIO()
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None, "Creator": None})
    return Plot(name, alt, _for_page(written.getvalue(), name, alt))


def shades() -> Any:
    """Colours of ``[0, 1]``: from nothing, whatever the page is, to blue."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("shades", [to_rgba(CELL, 0.0), to_rgba(CELL, 1.0)])


def _for_page(svg: str, name: str, alt: str) -> str:
    """The ``<svg>`` element alone, with ids of its own, scaled by the page, in the page's font and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: (\d+ )?([\d.]+)px [^;\"]+", r"font-weight: \g<1>; font-size: \g<2>px", svg)
    svg = svg.replace("font-weight: ;", "")
    for variable, fixed in PAGE_COLOURS.items():
        svg = svg.replace(fixed, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    opening = f'<svg {box[0]} role="img" aria-label="{_attribute(alt)}" class="plot">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1).replace("><!--", ">\n<!--")


def _attribute(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))
