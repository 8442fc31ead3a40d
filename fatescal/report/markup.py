"""HTML by small functions. Text is escaped where it enters; what they return is markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def html(value: object) -> Markup:
    """Return a value as markup: numbers with their exact value, other text escaped.

    >>> html("R < 1"), html(1 / 3)
    ('R &lt; 1', '<data value="0.3333333333333333">0.3333</data>')
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, float | np.floating):
        return Markup(f'<data value="{float(value)!r}">{number(float(value))}</data>')
    return Markup(escape(str(value)))


def number(x: float) -> str:
    """Return a number as it is read in a table: four digits, a dash for NaN.

    >>> number(0.123456), number(12345.6), number(-0.00012), number(float("nan"))
    ('0.1235', '12346', '−0.00012', '–')
    """
    if np.isnan(x):
        return "–"
    text = f"{x:.0f}" if 1e4 <= abs(x) < 1e7 else f"{x:.4g}"
    return text.replace("-", "−")


def spread(mean: float, sd: float) -> Markup:
    """Return mean ± sd.

    >>> spread(1.5, 0.25)
    '<data value="1.5">1.5</data> ± <data value="0.25">0.25</data>'
    """
    return Markup(f"{html(float(mean))} ± {html(float(sd))}")


def element(tag: str, *content: object, **attributes: str) -> Markup:
    """Return an element; a trailing underscore of an attribute's name is dropped.

    >>> element("p", "a & b", class_="note")
    '<p class="note">a &amp; b</p>'
    """
    given = "".join(f' {name.rstrip("_")}="{escape(value)}"' for name, value in attributes.items())
    return Markup(f"<{tag}{given}>{''.join(html(c) for c in content)}</{tag}>")


def paragraph(*content: object) -> Markup:
    """Return a paragraph of running text."""
    return element("p", *content)


def table(header: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """Return a table whose rows start with their name; cells may be `Markup`."""
    head = element("thead", element("tr", *(element("th", cell, scope="col") for cell in header)))
    return framed(head, rows, caption)


def framed(head: Markup, rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """Return a table of a ready head and rows that start with their name."""
    body = (
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    )
    parts = [element("caption", caption)] if caption else []
    return element("div", element("table", *parts, head, element("tbody", *body)), class_="wide")


def section(anchor: str, title: str, *content: object) -> Markup:
    """Return a section of the page."""
    return element("section", element("h2", title), *content, id=anchor)
