"""How every figure of the report looks, and how it gets into the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from fatescal.report.markup import Markup, element, html, scrolling

# Okabe and Ito's colours, distinct for colour-blind readers; each stands for one thing on the whole page
COLOUR = {
    "observations": "#222222",
    "default": "#CC79A7",
    "truth": "#D55E00",
    "prior": "#E69F00",
    "design": "#E69F00",
    "iteration": "#999999",
    "last": "#009E73",
    "posterior": "#0072B2",
    "climatology": "#999999",
}
RUNS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "fatescal",  # the same run gives the same bytes
}
WIDTH = 11.0  # inches of a figure as wide as the page
DPI = 140  # of the figures with too many points for SVG

styled = rc_context(STYLE)


def canvas(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure, sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def embed(figure: Figure, alt: str, *caption: object, vector: bool = True) -> Markup:
    """Return the figure as an HTML figure that carries its image.

    `vector` images are SVG; those with thousands of points are smaller as PNG. Neither holds a date.
    """
    buffer = io.BytesIO()
    kind, mime = ("svg", "svg+xml") if vector else ("png", "png")
    metadata = {"Date": None} if vector else {"Software": None}
    with laid_out(figure), rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    image = base64.b64encode(buffer.getvalue()).decode()
    width = round(100 * figure.get_figwidth())
    tag = f'<img alt="{escape(alt)}" width="{width}" decoding="async" src="data:image/{mime};base64,{image}">'
    shown = scrolling(Markup(tag), "figure", "picture")
    return element("figure", shown, *([element("figcaption", *map(html, caption))] if caption else []))


@contextmanager
def laid_out(figure: Figure) -> Iterator[None]:
    """Keep a figure as it is arranged now: every savefig would draw it all twice to do so."""
    layout = figure.get_layout_engine()
    if layout is not None:
        with rc_context(STYLE):
            layout.execute(figure)
        figure.set_layout_engine("none")
    yield
    if layout is not None:
        figure.set_layout_engine(layout)  # for another size


@dataclass(frozen=True)
class Plot:
    """A figure of a section: shown on the page, and written to the run's folder with its data.

    Attributes
    ----------
    name : str
        Of its files below `RUN/figures`, without suffix.
    draw : callable
        Returns the figure, drawn anew; `figure` is the one of page and files.
    alt : str
        What it shows, in words, for those who cannot see it.
    data : callable
        Returns the header and the rows of its data.
    caption : str
        Below it on the page.
    vector : bool
        Whether the page holds it as SVG; one with thousands of points is smaller as PNG.
    """

    name: str
    draw: Callable[[], Figure]
    alt: str
    data: Callable[[], tuple[Sequence[str], Iterable[Iterable[Any]]]]
    caption: str = ""
    vector: bool = True

    @cached_property
    def figure(self) -> Figure:
        """The figure, drawn once."""
        return self.draw()

    @property
    def shown(self) -> Markup:
        """The figure as it stands on the page."""
        return embed(self.figure, self.alt, *filter(None, [self.caption]), vector=self.vector)


def wrap(name: str, width: int = 30) -> str:
    """Return a name broken at underscores and spaces into lines of about `width` letters.

    Dollar signs, which would begin a formula, are escaped.

    >>> wrap("fates_leaf_vcmax25top_cool_c3_grass", 22).split(chr(10))
    ['fates_leaf_vcmax25top_', 'cool_c3_grass']
    >>> wrap("Vcmax25, grass", 10).split(chr(10))
    ['Vcmax25,', 'grass']
    """
    lines = [""]
    for part in pieces(name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines).replace("$", r"\$")


def pieces(name: str) -> Iterable[str]:
    """Return the parts of a name, each with the underscore or space that ends it."""
    return re.findall(r"[^_ ]*[_ ]|[^_ ]+", name)
