"""HTML by small functions. Text is escaped where it enters; what they return is markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def html(value: object) -> Markup:
    """Return a value as markup: numbers with their exact value, other text escaped.

    >>> html("R < 1"), html(1 / 3), html(64)
    ('R &lt; 1', '<data value="0.3333333333333333">0.3333</data>', '<data value="64">64</data>')
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, int | np.integer):
        return Markup(f'<data value="{int(value)}">{int(value)}</data>')
    if isinstance(value, float | np.floating):
        return Markup(f'<data value="{float(value)!r}">{number(float(value))}</data>')
    return Markup(escape(str(value)))


def number(x: float) -> str:
    """Return a number as it is read in a table: four digits, a dash for NaN.

    >>> number(0.123456), number(12345.6), number(-0.00012), number(float("nan"))
    ('0.1235', '12346', '−0.0001200', '–')
    """
    if np.isnan(x):
        return "–"
    text = f"{x:.0f}" if 1e4 <= abs(x) < 1e7 else f"{x:#.4g}".rstrip(".")
    return text.replace("-", "−")


def spread(mean: float, sd: float) -> Markup:
    """Return mean ± sd, both to the second digit of the sd.

    >>> spread(61.23456, 1.5)
    '<data value="61.23456">61.2</data> ± <data value="1.5">1.5</data>'
    """
    return Markup(" ± ".join(to_spread(float(x), float(sd)) for x in (mean, sd)))


def interval(median: float, low: float, high: float, sd: float) -> Markup:
    """Return a median and the interval around it, all to the second digit of the sd.

    >>> interval(61.26, 58.8, 63.71, 1.5)
    '<data value="61.26">61.3</data> (<data value="58.8">58.8</data> – <data value="63.71">63.7</data>)'
    """
    shown = [to_spread(float(x), float(sd)) for x in (median, low, high)]
    return Markup(f"{shown[0]} ({shown[1]} – {shown[2]})")


def to_spread(x: float, sd: float) -> Markup:
    """Return a number to the second digit of a standard deviation."""
    if not 1e-4 < sd < 1e4:  # also NaN
        return html(x)
    return fixed(x, max(0, 1 - math.floor(math.log10(sd))))


def rounded(x: float) -> Markup:
    """Return a number to two digits, with its exact value.

    >>> rounded(0.12345), rounded(123.4), rounded(0.0)
    ('<data value="0.12345">0.12</data>', '<data value="123.4">123</data>', '<data value="0.0">0</data>')
    """
    if not x or not math.isfinite(x) or abs(x) < 1e-4:
        return html(x) if x else fixed(float(x), 0)
    return fixed(float(x), max(0, 1 - math.floor(math.log10(abs(x)))))


def fixed(x: float, decimals: int) -> Markup:
    """Return a number to some decimals, with its exact value.

    >>> fixed(-0.12345, 2), fixed(-1e-17, 2)
    ('<data value="-0.12345">−0.12</data>', '<data value="-1e-17">0.00</data>')
    """
    x = float(x)
    shown = f"{round(x, decimals) + 0.0:.{decimals}f}".replace("-", "−")
    return Markup(f'<data value="{x!r}">{shown}</data>')


def breakable(name: str) -> Markup:
    """Return a name that may break after its underscores.

    >>> breakable("a_b")
    'a_<wbr>b'
    """
    return Markup(escape(name).replace("_", "_<wbr>"))


def element(tag: str, *content: object, **attributes: str) -> Markup:
    """Return an element; a trailing underscore of an attribute's name is dropped, as is an empty attribute,
    and other underscores are hyphens.

    >>> element("p", "a & b", class_="note")
    '<p class="note">a &amp; b</p>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value
    )
    return Markup(f"<{tag}{written}>{''.join(html(c) for c in content)}</{tag}>")


def paragraph(*content: object) -> Markup:
    """Return a paragraph of running text."""
    return element("p", *content)


def table(header: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """Return a table whose rows start with their name; columns of text are set left, of numbers right."""
    rows = [list(row) for row in rows]
    kinds = [
        "text" if all(type(cell) is str for cell in column) else "" for column in zip(*rows, strict=True)
    ]
    cells = (element("th", cell, scope="col", class_=kind) for cell, kind in zip(header, kinds, strict=True))
    return framed(element("thead", element("tr", *cells)), rows, caption)


def framed(head: Markup, rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """Return a table of a ready head and rows that start with their name."""

    def cell(value: object) -> Markup:
        return element("td", value, class_="text" if type(value) is str else "")

    body = (element("tr", element("th", row[0], scope="row"), *map(cell, row[1:])) for row in rows)
    parts = [element("caption", caption)] if caption else []
    return scrolling(element("table", *parts, head, element("tbody", *body)), caption or "table", "wide")


def scrolling(content: Markup, name: str, kind: str) -> Markup:
    """Return content that may be wider than a screen, which a keyboard can scroll too."""
    return element("div", content, class_=kind, tabindex="0", role="region", aria_label=name)


def section(anchor: str, title: str, *content: object) -> Markup:
    """Return a section of the page."""
    return element("section", element("h2", title), *content, id=anchor)
