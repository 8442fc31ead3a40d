"""Reading of a table: columns as numbers, indexed by the start of each row's interval."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fatescal.base.errors import BadInput
from fatescal.observations.readers import dates, intervals, time_columns
from fatescal.observations.readers.layout import Layout, detect
from fatescal.observations.readers.numbers import numbers
from fatescal.observations.readers.opening import text_of

if TYPE_CHECKING:
    import pandas as pd


def read(
    path: str | Path,
    columns: Iterable[str],
    time_column: str | Sequence[str] | None = None,
    time_zone: str | None = None,
    format: str | None = None,
    *,
    time_stamp: str | None = None,
    time_format: str | None = None,
    missing: Sequence[float | str] = (),
    not_missing: Sequence[float] = (),
) -> tuple[pd.DataFrame, Layout]:
    """Return `columns` of a table, a float each, indexed by the ascending start of rows, and its layout.

    Only these columns are kept while reading. Times with an offset are turned to UTC, others are of
    `time_zone`; without one they are left as they are. What was guessed or assumed stands in the layout's
    notes.

    Parameters
    ----------
    columns : iterable of str
        Names of columns, which are also those of the result.
    time_column : str or sequence of str, optional
        The column of time, or several that make it up; see `time_columns`.
    time_stamp : {'start', 'middle', 'end'}, optional
        Where a stamp stands in its interval, where neither names nor format tell.
    time_format : str, optional
        The form of times, as strptime has it.
    missing, not_missing : sequence
        Values that mean missing, and that do not although they look so; see `numbers`.

    Raises
    ------
    BadInput
        As `detect`; for a missing column, an unreadable row, time or value, a time given twice, a date that
        can be read in several ways, a column without any value.
    """
    import pandas as pd

    layout = detect(Path(path), format)
    times = _time_columns(layout, time_column, str(path))
    times, place = _placed(layout, times, time_stamp, str(path))
    columns = [name for name in dict.fromkeys(columns) if name not in times]
    text = _text(Path(path), layout, (*times, *columns))
    stamps = _stamps(text, times, layout, time_format, str(path))
    written = pd.DatetimeIndex(stamps.moments)
    if written.has_duplicates:
        raise _given_twice(written, times, layout, str(path))
    index, words = intervals.starts(stamps, place, time_zone, str(path))
    notes = [*stamps.notes, *["offsets of the times turned to UTC"] * stamps.utc, *words]
    if len(times) > 1 and time_column is None and layout.format == "csv":
        notes.insert(0, f"times from {', '.join(times)}")
    table = {}
    for name in columns:
        table[name], said = numbers(text[name], str(path), missing, not_missing)
        notes += said
    layout = replace(layout, notes=(*layout.notes, *notes))
    return pd.DataFrame(table, index=index).sort_index(), layout


def _time_columns(layout: Layout, chosen: str | Sequence[str] | None, path: str) -> list[str]:
    """The names of the columns that hold the time."""
    if chosen is not None:
        return [layout.spelled(name) for name in ([chosen] if isinstance(chosen, str) else chosen)]
    names = layout.kind.time_columns(list(layout.names))
    if names is not None:
        return names
    raise BadInput(
        f"{path}: observations need `time_column`, the name of the column with the time",
        expected=f"one of {', '.join(layout.names)}, or several: {time_columns.EXPECTED}",
        hint=next((f"time_column: {name}" for name in layout.names if _TIME.search(name)), ""),
    )


def _placed(
    layout: Layout, times: list[str], key: str | None, path: str
) -> tuple[list[str], intervals.Position]:
    """The columns of time and where their stamps stand; the column of starts instead of that of ends."""
    places = [k for name in times if (k := layout.column(name)) is not None and k < len(layout.units_row)]
    units = [layout.units_row[k] for k in places]
    place = intervals.position(times, units, layout.kind.stamp, layout.format, key, path)
    if place.source == "name" and place.where != "start" and len(times) == 1:
        for other in layout.names:
            if intervals.told([other]) == "start" and intervals.stem(other) == intervals.stem(times[0]):
                return [other], intervals.Position("start", "name", f"starts of intervals from {other}")
    return times, place


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
    found = next((s for s in time_columns.sets_of(layout.names) if set(times) <= set(s)), None)
    return BadInput(
        f"{path}: {', '.join(times)} alone does not tell the time",
        hint=f"time_column: [{', '.join(found)}]" if found else f"time_column: {time_columns.EXPECTED}",
    )


def _given_twice(index: pd.DatetimeIndex, times: list[str], layout: Layout, path: str) -> BadInput:
    twice = index[index.duplicated()]
    more = [s for s in time_columns.sets_of(layout.names) if set(times) < set(s)]
    hint = f"time_column: [{', '.join(more[0])}]" if more else "keep one row for each time"
    return BadInput(
        f"{path}: {len(twice)} times are given more than once, the first is {twice[0]}", hint=hint
    )


def _text(path: Path, layout: Layout, names: Sequence[str]) -> pd.DataFrame:
    """The cells of some columns as text; empty where a row is shorter.

    A further column past the last one shows whether rows are longer than the names: pandas does not look
    where it is told which columns to keep.
    """
    import pandas as pd

    places = {name: _place(name, layout, str(path)) for name in names}
    width = len(layout.names)
    wanted = sorted({*places.values(), width})
    mark = " " if layout.separator == r"\s+" else layout.separator
    with text_of(path) as (file, _):
        for _ in range(layout.skip):
            file.readline()
        numbered: Any = _Numbered(mark.join(map(str, range(width + 1))) + "\n", file)
        try:
            text = pd.read_csv(
                numbered, sep=layout.separator, usecols=[str(k) for k in wanted], dtype=str, index_col=False,
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
    return pd.DataFrame({name: text[str(place)].rename(name) for name, place in places.items()})


def _place(name: str, layout: Layout, path: str) -> int:
    place = layout.column(name)
    if place is None:
        near = difflib.get_close_matches(name, layout.names, n=1, cutoff=0.4)
        raise BadInput(
            f"{path} has no column {name!r}",
            expected=f"one of {', '.join(layout.names)}",
            hint=repr(near[0]) if near else "",
        )
    return place


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
