"""How a table is written: what is detected from its beginning."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.observations.missing_codes import TEXTS
from fatescal.observations.readers.base import Head, Layout
from fatescal.observations.readers.named_units import of_header, of_units_row
from fatescal.observations.readers.opening import text_of

ROW_NAMES = "row.names"  # of R's write.table: the column that its names leave out
_LONGEST_HEADER = 1000  # lines
_MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", r"\s+": "space"}


@dataclass(frozen=True)
class TextLayout(Layout):
    """How a table is written.

    Attributes
    ----------
    skip : int
        Lines above the first row of data.
    separator : str
        What separates cells, as pandas has it.
    units_row : tuple of str
        Cells of the row below the names.
    """

    skip: int = 0
    separator: str = ","
    units_row: tuple[str, ...] = ()


def head_of(path: Path) -> Head:
    """Return the beginning of a file: its first bytes, and its first lines where it is a text.

    Lines with # above the names are comments.

    Raises
    ------
    BadInput
        For a missing file.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist", expected="a file of observations")
    with path.open("rb") as file:
        first = file.read(64)
    try:
        with text_of(path) as (text, stored):
            lines = list(islice(text, _LONGEST_HEADER))
        comments = _comments(lines, path)
    except BadInput as error:
        return Head(path, first, refusal=error)
    filled = [k for k in range(len(comments), len(lines)) if lines[k].strip()][:12]
    separator = _separator(lines[filled[0]])
    try:
        rows = [_cells(lines[k], separator) for k in filled]
    except csv.Error as error:  # a cell longer than any of a table
        refusal = BadInput(f"{path} can't be read as a table: {error}", expected="a table as text")
        return Head(path, first, refusal=refusal)
    return Head(path, first, comments, rows, separator, filled, stored)


def text_layout(format: str, head: Head, names: list[str], above: int, below: list[str]) -> TextLayout:
    """Return the layout of a table whose names have `above` rows above and the cells `below` below them.

    Rows below the names that hold neither a number nor a date are units and the like.

    Raises
    ------
    BadInput
        If the names are none.
    """
    _demand_names(names, head.comments, head.path)
    n_below = _rows_below(head.rows[above + 1 :])
    units_row = below if n_below else []
    if _has_row_names(names, head.rows[above + 1 + n_below :], head.separator):
        names, units_row = [ROW_NAMES, *names], ["", *units_row]
    units = of_units_row(names, units_row) | of_header(names, list(head.comments))
    units.pop("", None)
    return TextLayout(
        format,
        tuple(names),
        units,
        tuple(head.stored),
        f"{_MARKS[head.separator]}-separated, {len(names)} columns",
        skip=head.lines[above + n_below] + 1,
        separator=head.separator,
        units_row=tuple(units_row),
    )


def _demand_names(names: Sequence[str], comments: Sequence[str], path: Path) -> None:
    if not any(re.search(r"[^\W\d]", name) and not _is_data(name) for name in names):
        raise BadInput(
            f"{path} has no row with the names of the columns",
            got=", ".join(names[:8]),
            hint="no # before the names" if comments else "a row with the names above the numbers",
        )


def _comments(lines: Sequence[str], path: Path) -> list[str]:
    """Lines above the first that is neither empty nor a comment."""
    for k, line in enumerate(lines):
        if line.strip() and not line.startswith("#"):
            return list(lines[:k])
    raise BadInput(f"{path} has no row with the names of the columns")


def _separator(line: str) -> str:
    bare = re.sub(r'"[^"]*"', "", line)
    counts = {mark: bare.count(mark) for mark in (",", ";", "\t", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else r"\s+"


def _cells(line: str, separator: str) -> list[str]:
    if separator == r"\s+":
        return [cell.strip('"') for cell in re.findall(r'"[^"]*"|\S+', line)]
    return [
        cell.strip().strip('"')
        for cell in next(csv.reader([line.rstrip("\n")], delimiter=separator, skipinitialspace=True))
    ]


def _is_data(cell: str) -> bool:
    """Whether a cell is a number other than 1, which may be a unit, or has the digits of a date or time."""
    number = re.fullmatch(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?", cell)
    return bool(number and cell != "1") or bool(re.search(r"\d{4}|\d[-/.:]\d|\d{2}[A-Za-z]{3}\d{2}", cell))


def _rows_below(rows: Sequence[Sequence[str]]) -> int:
    """The number of rows, at most three, that hold no data; there must be one with data below them."""
    for k, row in enumerate(rows[:4]):
        if any(_is_data(cell) for cell in row):
            return k
    return 0


def _has_row_names(names: Sequence[str], rows: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether rows have a cell more than there are names, as R writes them: a count, a word, or a date."""
    if not rows or any(len(row) != len(names) + 1 or row[-1] == "" for row in rows):
        return False
    if all(row[0] == str(k + 1) for k, row in enumerate(rows)):
        return True
    if all(
        re.search(r"[A-Za-z]", row[0]) and not _is_data(row[0]) and row[0].lower() not in TEXTS
        for row in rows
    ):
        return True
    blank = separator in (r"\s+", "\t")
    return blank and all(re.search(r"\d{4}|\d[-/.]\d", row[0]) and ":" not in row[1] for row in rows)
