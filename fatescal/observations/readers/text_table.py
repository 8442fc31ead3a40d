"""Tables as text: columns as numbers, indexed by the start of each row's interval."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from fatescal.base.errors import BadInput
from fatescal.observations.readers import dates, intervals, time_columns
from fatescal.observations.readers.base import Head, Layout, Reader, Request
from fatescal.observations.readers.layout import TextLayout, text_layout
from fatescal.observations.readers.numbers import numbers
from fatescal.observations.readers.opening import text_of

if TYPE_CHECKING:
    import pandas as pd


class TextTable(Reader):
    """A table as text: how it is known, where its names stand, which columns hold the time.

    Attributes
    ----------
    above : int
        Rows above the one with the names of columns.
    stamp : str
        Where stamps of this format stand in their interval, 'start', 'middle' or 'end'; '' if any of these.
    """

    above: ClassVar[int] = 0
    stamp: ClassVar[str] = ""

    def time_columns(self, names: list[str]) -> list[str] | None:
        """Return the columns of time among those of a file; None if the config must tell."""
        complete = time_columns.sets_of(names)
        return complete[0] if len(complete) == 1 else None

    def rows_above(self, head: Head) -> int:
        """Return the number of rows above the names."""
        return self.above

    def names(self, head: Head) -> list[str]:
        """Return the names of the columns."""
        row = self.rows_above(head)
        return head.rows[row] if len(head.rows) > row else []

    def below(self, head: Head) -> list[str]:
        """Return the cells of the row below the names."""
        row = self.rows_above(head) + 1
        return head.rows[row] if len(head.rows) > row else []

    def layout(self, head: Head) -> TextLayout:
        """Return the layout. Rows below the names without a number or date are units and the like."""
        row, names = self.rows_above(head), self.names(head)
        return text_layout(self.kind, head, names, row, self.below(head))

    def read(self, head: Head, request: Request) -> tuple[pd.DataFrame, Layout]:
        """Return the requested columns and the layout; see `Reader.read`."""
        import pandas as pd

        layout, path = self.layout(head), str(head.path)
        times = _time_columns(self, layout, request.time_column, path)
        times, position = _with_position(self, layout, times, request.time_stamp, path)
        columns = [name for name in request.columns if name not in times]
        text = _text(head.path, layout, (*times, *columns))
        stamps = _stamps(text, times, layout, request.time_format, path)
        written = pd.DatetimeIndex(stamps.moments)
        if written.has_duplicates:
            raise _repeated(written, times, layout, path)
        index, interval_notes = intervals.starts(stamps, position, request.time_zone, path)
        notes = [*stamps.notes, *["offsets of the times turned to UTC"] * stamps.utc, *interval_notes]
        if len(times) > 1 and request.time_column is None and layout.format == "csv":
            notes.insert(0, f"times from {', '.join(times)}")
        table = {}
        for name in columns:
            table[name], column_notes = numbers(text[name], path, request.missing, request.not_missing)
            notes += column_notes
        layout = replace(layout, notes=(*layout.notes, *notes))
        return pd.DataFrame(table, index=index).sort_index(), layout


def _time_columns(
    table: TextTable, layout: Layout, chosen: str | Sequence[str] | None, path: str
) -> list[str]:
    """The names of the columns that hold the time."""
    if chosen is not None:
        return [layout.spelled(name) for name in ([chosen] if isinstance(chosen, str) else chosen)]
    names = table.time_columns(list(layout.names))
    if names is not None:
        return names
    raise BadInput(
        f"{path}: observations need `time_column`, the name of the column with the time",
        expected=f"one of {', '.join(layout.names)}, or several: {time_columns.EXPECTED}",
        hint=next((f"time_column: {name}" for name in layout.names if _TIME.search(name)), ""),
    )


def _with_position(
    table: TextTable, layout: TextLayout, times: list[str], key: str | None, path: str
) -> tuple[list[str], intervals.Position]:
    """The columns of time and where their stamps stand; the column of starts instead of that of ends."""
    indices = [k for name in times if (k := layout.column(name)) is not None and k < len(layout.units_row)]
    units = [layout.units_row[k] for k in indices]
    position = intervals.position(times, units, table.stamp, layout.format, key, path)
    if position.source == "name" and position.where != "start" and len(times) == 1:
        for other in layout.names:
            if intervals.edge([other]) == "start" and intervals.stem(other) == intervals.stem(times[0]):
                return [other], intervals.Position("start", "name", f"starts of intervals from {other}")
    return times, position


def _stamps(
    text: pd.DataFrame, times: list[str], layout: Layout, form: str | None, path: str
) -> dates.Stamps:
    """The moments of all rows."""
    if len(times) > 1:
        return time_columns.assemble(text, times, path, form)
    if text[times[0]].str.strip().str.fullmatch(r"\d{1,3}(?:\.\d*)?").all():
        raise _incomplete(times, layout, path)
    year_first = layout.format == "fluxnet"
    return dates.read_stamps(text[times[0]], path, form, year_first)


def _incomplete(times: list[str], layout: Layout, path: str) -> BadInput:
    complete = next((s for s in time_columns.sets_of(layout.names) if set(times) <= set(s)), None)
    return BadInput(
        f"{path}: {', '.join(times)} alone does not tell the time",
        hint=f"time_column: [{', '.join(complete)}]" if complete else f"time_column: {time_columns.EXPECTED}",
    )


def _repeated(index: pd.DatetimeIndex, times: list[str], layout: Layout, path: str) -> BadInput:
    twice = index[index.duplicated()]
    more = [s for s in time_columns.sets_of(layout.names) if set(times) < set(s)]
    hint = f"time_column: [{', '.join(more[0])}]" if more else "keep one row for each time"
    return BadInput(
        f"{path}: {len(twice)} times are given more than once, the first is {twice[0]}", hint=hint
    )


def _text(path: Path, layout: TextLayout, names: Sequence[str]) -> pd.DataFrame:
    """The cells of some columns as text; empty where a row is shorter.

    A further column past the last one shows whether rows are longer than the names: pandas does not look
    when it gets the columns to keep.
    """
    import pandas as pd

    indices = {name: layout.index(name, str(path)) for name in names}
    width = len(layout.names)
    kept = sorted({*indices.values(), width})
    mark = " " if layout.separator == r"\s+" else layout.separator
    with text_of(path) as (file, _):
        for _ in range(layout.skip):
            file.readline()
        numbered: Any = _Numbered(mark.join(map(str, range(width + 1))) + "\n", file)
        try:
            text = pd.read_csv(
                numbered, sep=layout.separator, usecols=[str(k) for k in kept], dtype=str, index_col=False,
                skipinitialspace=True, na_filter=False,
            ).fillna("")  # fmt: skip
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise BadInput(f"{path} can't be read as a table: {error}") from error
    if text.empty:
        raise BadInput(f"{path} has names of columns, but no rows")
    longer = (text[str(width)].str.strip() != "").to_numpy()
    if longer.any():
        raise BadInput(
            f"{path} can't be read as a table: data row {int(longer.argmax()) + 1} has more cells than names",
            expected=f"{width} cells, as there are names",
            hint=_LONGER.get(layout.separator, "a name for each column"),
        )
    return pd.DataFrame({name: text[str(place)].rename(name) for name, place in indices.items()})


_TIME = re.compile("date|time", re.IGNORECASE)
_LONGER = {",": "decimal points, not commas", r"\s+": "quotes around what holds blanks"}


class _Numbered:
    """A file behind a line of its own, for pandas: the numbers of its columns and of one more."""

    def __init__(self, line: str, file: TextIO) -> None:
        self._line, self._file = line, file

    def read(self, size: int = -1) -> str:
        """Return the line, then the file's text by and by."""
        line, self._line = self._line, ""
        return line or self._file.read(size)

    def __iter__(self) -> Iterator[str]:
        yield self._line
        yield from self._file
