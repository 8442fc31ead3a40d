"""How a table is written: what is found out from its beginning."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.observations.missing_codes import TEXTS
from fatescal.observations.readers.formats import FORMATS, format_of
from fatescal.observations.readers.formats.base import Format, Head
from fatescal.observations.readers.named_units import of_header, of_units_row
from fatescal.observations.readers.opening import text_of

ROW_NAMES = "row.names"  # of R's write.table: the column that its names leave out
_LONGEST_HEADER = 1000  # lines
_MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", r"\s+": "space"}


@dataclass(frozen=True)
class Layout:
    """How a file is written: what `detect` found, and `read` with it.

    Attributes
    ----------
    skip : int
        Lines above the first row of data.
    units : mapping
        Unit of each column, as far as the file or its format tells.
    notes : tuple of str
        What was guessed or assumed, for the user.
    """

    format: str
    skip: int
    separator: str
    names: tuple[str, ...]
    units: dict[str, str]
    notes: tuple[str, ...] = ()
    units_row: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The layout as it is told to the user."""
        written = f"{self.format}, {_MARKS[self.separator]}-separated, {len(self.names)} columns"
        return ", ".join((written, *self.notes))

    @property
    def kind(self) -> Format:
        """The format."""
        return next(f for f in FORMATS if f.name == self.format)

    def column(self, name: str) -> int | None:
        """Return the place of a column, its name written with or without quotes; None if there is none.

        Raises
        ------
        BadInput
            If several columns are called so.
        """
        for wanted in (name, name.strip().strip("\"'")):
            if (count := self.names.count(wanted)) > 1:
                raise BadInput(f"{count} columns are called {wanted!r}", hint="give them different names")
            if count:
                return self.names.index(wanted)
        return None

    def spelled(self, name: str) -> str:
        """Return the name of a column of time as the file spells it, where capitals alone differ."""
        alike = [other for other in self.names if other.lower() == name.lower()]
        return alike[0] if self.column(name) is None and len(alike) == 1 else name


def detect(path: str | Path, format: str | None = None) -> Layout:
    """Return the layout of a file, which is taken to be of `format` where that is given.

    Formats are those of `formats.FORMATS`; whatever else has names of columns is csv. Lines with # above the
    names are comments. Rows below the names that hold neither a number nor a date are units and the like.

    Raises
    ------
    BadInput
        For a missing file, one that holds no text, one without names of columns, or one that lacks what the
        given format demands.
    """
    path = Path(path)
    with text_of(path) as (file, stored):
        lines = list(islice(file, _LONGEST_HEADER))
    comments = _comments(lines, path)
    places = [k for k in range(len(comments), len(lines)) if lines[k].strip()][:12]
    separator = _separator(lines[places[0]])
    head = Head(comments, [_cells(lines[k], separator) for k in places])
    kind = format_of(head, format)
    if kind is None:
        wanted = next(f for f in FORMATS if f.name == format)
        raise BadInput(
            f"{path} is no {format} file", expected=wanted.expected, got=", ".join(head.rows[0][:8])
        )
    names = kind.names(head)
    _demand_names(names, comments, path)
    below = _rows_below(head.rows[kind.above + 1 :])
    data = head.rows[kind.above + 1 + below :]
    units_row = kind.below(head) if below else []
    if _has_row_names(names, data, separator):
        names, units_row = [ROW_NAMES, *names], ["", *units_row]
    units = of_units_row(names, units_row)
    units |= of_header(names, comments)
    units.pop("", None)
    skip = places[kind.above + below] + 1
    return Layout(kind.name, skip, separator, tuple(names), units, tuple(stored), tuple(units_row))


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
