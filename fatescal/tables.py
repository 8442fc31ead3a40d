"""Tables of measurements as flux people have them: the format found out, columns as numbers, times in UTC."""

from __future__ import annotations

import csv
import difflib
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.errors import BadInput
from fatescal.records import Array

if TYPE_CHECKING:
    import pandas as pd

MISSING = -9999.0  # what flux networks write for a missing value
FORMATS = ("csv", "fluxnet", "reddyproc", "smear")


@dataclass(frozen=True)
class Layout:
    """How a file is written: what `detect` found.

    Attributes
    ----------
    skip : int
        Lines above the names of the columns.
    units : mapping
        Unit of each column, as far as the file or its format tells.
    """

    format: str
    skip: int
    separator: str
    names: tuple[str, ...]
    units: dict[str, str]
    units_row: bool = False

    @property
    def words(self) -> str:
        """The layout as it is told to the user."""
        marks = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", r"\s+": "space"}
        return f"{self.format}, {marks[self.separator]}-separated, {len(self.names)} columns"


def detect(path: Path, format: str | None = None) -> Layout:
    """Return the layout of a file, which is taken to be of `format` where that is given.

    A FLUXNET file has a column TIMESTAMP or TIMESTAMP_START, a REddyProc file Year, DoY and Hour and a row of units
    below its names, a SMEAR daily file a column date and header lines that name SMEAR; whatever else has names of columns
    is csv. Units of the last two are those of a header line ``# units: GPP,NEE g C m-2 d-1; ET mm d-1``.

    Raises
    ------
    BadInput
        For a missing file, one without names of columns, or one that lacks what the given format demands.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist", expected="a table of observations")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = []
        for line in file:
            if line.strip() and not line.startswith("#"):
                break
            header.append(line)
        else:
            raise BadInput(f"{path} has no row with the names of the columns")
        below = next((other for other in file if other.strip()), "")
    separator, names = _split(line)
    first = _cells(below, separator)
    found = _format(names, first, header)
    chosen = format or found
    if format not in (None, found) and format != "csv":
        raise BadInput(f"{path} is no {format} file", expected=_demanded(format), got=", ".join(names[:8]))
    units = _units(chosen, names, first, header)
    return Layout(chosen, len(header), separator, tuple(names), units, units_row=chosen == "reddyproc")


def read(
    path: str | Path,
    columns: Iterable[str],
    time_column: str | None = None,
    time_zone: str | None = None,
    format: str | None = None,
) -> tuple[pd.DataFrame, Layout]:
    """Return `columns` of a table, a float each, indexed by the ascending start of their measurements, and its layout.

    `#` lines before the names are skipped; empty, NaN and -9999 are missing. Times with an offset are turned to UTC,
    others are of `time_zone`; without one they are left as they are.

    Raises
    ------
    BadInput
        As `detect`; for a missing column, an unreadable row, time or value, a time given twice, a day and month that
        cannot be told apart, a column without any value.
    """
    layout = detect(Path(path), format)
    times = _time_columns(layout, time_column, str(path))
    columns = [name for name in dict.fromkeys(columns) if name not in times]
    for name in (*times, *columns):
        if name not in layout.names:
            near = difflib.get_close_matches(name, layout.names, n=1, cutoff=0.4)
            raise BadInput(
                f"{path} has no column {name!r}",
                expected=f"one of {', '.join(layout.names)}",
                hint=repr(near[0]) if near else "",
            )
    text = _text(Path(path), layout)
    if len(times) == 3:
        index = _of_year_day_hour(text, times, str(path))
    else:
        index = _times(text[times[0]], str(path))
    said = text[times[0]].str.fullmatch(_OFFSET).fillna(False).to_numpy(dtype=bool)
    if said.any() and not said.all():
        raise BadInput(f"{path}: some times have an offset, others don't", hint="write all times alike")
    if not said.all():
        index = _to_utc(index, time_zone)
    if index.has_duplicates:
        twice = index[index.duplicated()]
        raise BadInput(
            f"{path}: {len(twice)} times are given more than once, the first is {twice[0]}",
            hint="keep one row for each time",
        )
    import pandas as pd

    table = pd.DataFrame({name: _numbers(text[name], str(path)) for name in columns})
    return table.set_index(index).sort_index(), layout


def _split(line: str) -> tuple[str, list[str]]:
    counts = {mark: line.count(mark) for mark in (",", ";", "\t", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    separator = best if counts[best] else r"\s+"
    return separator, _cells(line, separator)


def _cells(line: str, separator: str) -> list[str]:
    if separator == r"\s+" or not line:
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line.rstrip("\n")], delimiter=separator))]


def _format(names: list[str], first: list[str], header: list[str]) -> str:
    if {"TIMESTAMP", "TIMESTAMP_START"} & set(names):
        return "fluxnet"
    if {"Year", "DoY", "Hour"} <= set(names) and first[:1] == ["--"]:
        return "reddyproc"
    return "smear" if "date" in names and any("SMEAR" in line for line in header) else "csv"


def _demanded(format: str) -> str:
    return {
        "fluxnet": "a column TIMESTAMP or TIMESTAMP_START",
        "smear": "a column date, and header lines with # that name SMEAR",
        "reddyproc": "columns Year, DoY, Hour and a row of units below the names that begins with --",
    }[format]


def _units(format: str, names: list[str], first: list[str], header: list[str]) -> dict[str, str]:
    """Units of the columns, as far as they are known by name or told by the file."""
    if format == "reddyproc":
        units = {name: _spaced(unit) for name, unit in zip(names, first, strict=False) if unit != "--"}
        return {n: "umol CO2 m-2 s-1" if u == "umol m-2 s-1" else u for n, u in units.items()}
    if format == "fluxnet":
        return {}  # they depend on the step, which only the times tell (`fluxnet.unit`)
    told = "".join(line for line in header if re.match(r"#\s*units?\s*:", line, re.IGNORECASE))
    units = {}
    for part in told.partition(":")[2].split(";"):
        listed, _, unit = re.sub(r"\(.*?\)", "", part).strip().partition(" ")  # remarks aside
        units |= {name: unit for name in listed.split(",") if name in names}
    return units


def _spaced(unit: str) -> str:
    """The unit in the notation of climate data.

    >>> _spaced("umolm-2s-1"), _spaced("Wm-2"), _spaced("umol_m-2_s-1")
    ('umol m-2 s-1', 'W m-2', 'umol m-2 s-1')
    """
    return re.sub(r"(?<=[\w\d])_?(m-[23]|s-1|d-1)", r" \1", unit)


def _time_columns(layout: Layout, given: str | None, path: str) -> list[str]:
    """The names of the columns that hold the time: one, or year, day of the year and hour."""
    if given is not None:
        return [given]
    if layout.format == "reddyproc":
        return ["Year", "DoY", "Hour"]
    if layout.format == "fluxnet":
        return ["TIMESTAMP_START" if "TIMESTAMP_START" in layout.names else "TIMESTAMP"]
    if layout.format == "smear":
        return ["date"]
    raise BadInput(
        f"{path}: observations need `time_column`, the name of the column with the time",
        expected=f"one of {', '.join(layout.names)}",
    )


def _text(path: Path, layout: Layout) -> pd.DataFrame:
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the names
        try:
            text = pd.read_csv(
                path, sep=layout.separator, skiprows=layout.skip, dtype=str, index_col=False, skipinitialspace=True,
                encoding="utf-8-sig", encoding_errors="replace",
            ).rename(columns=str.strip)  # fmt: skip
        except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
            raise BadInput(f"{path} can't be read as a table: {error}") from error
    text = text.iloc[1:].reset_index(drop=True) if layout.units_row else text
    if text.empty:
        raise BadInput(f"{path} has names of columns, but no rows")
    return text


def _of_year_day_hour(text: pd.DataFrame, names: list[str], path: str) -> pd.DatetimeIndex:
    """Starts of the measurements of a REddyProc file, whose Hour is that of their end, 0.5 to 24."""
    import pandas as pd

    year, day, hour = (_numbers(text[name], path) for name in names)
    if not np.isfinite(year + day + hour).all():
        raise BadInput(f"{path}: Year, DoY or Hour is missing in a row")
    seconds = np.rint(hour * 3600).astype(np.int64)
    step = int(np.diff(np.unique(seconds)).min()) if len(np.unique(seconds)) > 1 else 86400
    start = (year.astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[s]")
    return pd.DatetimeIndex(start + (day.astype(np.int64) - 1) * 86400 + seconds - step)


_OFFSET = re.compile(r".*\d[T ]\d.*(?:Z|[+-]\d\d:?\d\d)\s*")
_AMBIGUOUS = re.compile(r"\s*(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d{2})\b")


def _times(text: pd.Series, path: str) -> pd.DatetimeIndex:
    """Moments of the texts, without zone: UTC where an offset is written, else as they stand."""
    import pandas as pd

    times = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)  # mixed lengths are welcome
    if times.isna().any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no common format: reported below, by row
            times = pd.to_datetime(text, errors="coerce", utc=True, dayfirst=_day_first(text, path))
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise BadInput(
            f"{path}: the time {text.iloc[row]!r} in data row {row + 1} can't be read",
            hint="write all times as 2004-01-31 or 2004-01-31 12:30",
        )
    return pd.DatetimeIndex(times).tz_localize(None)


def _day_first(text: pd.Series, path: str) -> bool:
    """Whether dates like 01/02/2004 begin with the day, by numbers above 12 in one of the places."""
    found = [_AMBIGUOUS.match(str(cell)) for cell in text]
    first, second = (max((int(m[k]) for m in found if m), default=0) for k in (1, 2))
    if first > 12 and second > 12:
        raise BadInput(
            f"{path}: some dates begin with the day, others with the month", hint="write them as 2004-01-31"
        )
    if 0 < max(first, second) <= 12:
        raise BadInput(
            f"{path}: whether {text.iloc[0]!r} begins with the day or the month can't be told from this table",
            hint="write the dates as 2004-01-31",
        )
    return first > 12


def _to_utc(index: pd.DatetimeIndex, zone: str | None) -> pd.DatetimeIndex:
    """Moments of a time zone, as 'UTC+2', '+05:30' or 'Europe/Helsinki', in UTC without zone."""
    import pandas as pd

    if zone is None:
        return index
    offset = re.fullmatch(r"(?:UTC|GMT)?(?:([+-])(\d{1,2})(?::?(\d{2}))?)?", zone.strip())
    if offset:
        minutes = int(offset[2] or 0) * 60 + int(offset[3] or 0)
        return index - pd.Timedelta(minutes=-minutes if offset[1] == "-" else minutes)
    try:
        return index.tz_localize(zone).tz_convert("UTC").tz_localize(None)
    except Exception as error:  # zoneinfo, pytz and pandas each have their own
        raise BadInput(
            f"time_zone {zone!r} can't be used: {error}",
            expected="an offset like 'UTC+2' or a name like 'Europe/Helsinki'",
            hint="towers keep winter time all year: an offset",
        ) from error


def _numbers(text: pd.Series, path: str) -> Array:
    import pandas as pd

    values = pd.to_numeric(text.str.strip(), errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(text.notna().to_numpy() & ~np.isfinite(values))
    if bad.size:
        raise BadInput(
            f"{path}: {text.name} is {text.iloc[bad[0]]!r} in data row {bad[0] + 1}, and {bad.size - 1} more",
            expected="numbers with a decimal point; missing: empty, NaN or -9999",
        )
    values = np.where(values == MISSING, np.nan, values)
    if np.isnan(values).all():
        raise BadInput(f"{path}: column {text.name} has no valid value")
    return values
