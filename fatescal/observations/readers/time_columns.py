"""Columns that hold the time in parts: year, month, day, hour; year, day of the year, hour; date and time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations.readers import dates
from fatescal.observations.readers.dates import Stamps

if TYPE_CHECKING:
    import pandas as pd

ROLES = {
    "year": ("year", "yr", "yyyy", "jahr"),
    "month": ("month", "mon", "mo", "mth", "monat"),
    "day": ("day", "dd", "dom", "mday", "dayofmonth", "tag"),
    "doy": ("doy", "dayofyear", "yday", "jday", "julianday", "julian", "jd"),
    "hour": ("hour", "hours", "hr", "hh", "stunde"),
    "minute": ("minute", "minutes", "min", "mins", "mi"),
    "second": ("second", "seconds", "sec", "secs", "ss"),
    "date": ("date", "datum", "yyyymmdd"),
    "time": ("time", "hhmm", "hrmin", "clock"),
}
_CLOCK = ("hour", "minute", "second")
SETS = (("year", "month", "day", *_CLOCK), ("year", "doy", *_CLOCK), ("date", "time"))
EXPECTED = "[year, month, day, hour, minute], the first of them, [year, doy, hour] or [date, time]"


def role(name: str) -> str | None:
    """Return what part of the time a column of this name holds, if any.

    >>> role("Year"), role("DoY"), role("hour (UTC)"), role("MM"), role("mm"), role("GPP")
    ('year', 'doy', 'hour', 'month', 'minute', None)
    """
    if name in ("MM", "mm"):
        return "month" if name == "MM" else "minute"
    plain = re.sub(r"[\[(].*?[\])]", "", name)
    plain = re.sub(r"[^a-z]", "", re.sub(r"_?(utc|gmt|local)$", "", plain.strip().lower()))
    return next((kind for kind, names in ROLES.items() if plain in names), None)


def sets_of(names: Sequence[str]) -> list[list[str]]:
    """Return the columns among `names` that make up a time, one list for each way that is complete.

    >>> sets_of(["Year", "Month", "Day", "Hour", "Minute", "NEE"])
    [['Year', 'Month', 'Day', 'Hour', 'Minute']]
    >>> sets_of(["filename", "date", "time", "DOY", "co2_flux"]), sets_of(["year", "GPP"])
    ([['date', 'time']], [])
    """
    columns: dict[str, list[str]] = {}
    for name in names:
        if (kind := role(name)) is not None:
            columns.setdefault(kind, []).append(name)
    sets = []
    for kinds in SETS:
        needed = [kind for kind in kinds if kind not in _CLOCK]
        if not all(len(columns.get(kind, ())) == 1 for kind in needed):
            continue
        chosen = [columns[kind][0] for kind in needed]
        for kind in () if kinds[0] == "date" else _CLOCK:
            if len(columns.get(kind, ())) != 1:
                break
            chosen.append(columns[kind][0])
        if kinds[0] == "year" and len(chosen) == len(needed) and len(columns.get("time", ())) == 1:
            chosen += columns["time"]
        sets.append(chosen)
    # both calendar date and day of the year: the same twice
    return sets[:1] if len(sets) == 2 and sets[0][0] == sets[1][0] else sets


def assemble(text: pd.DataFrame, names: Sequence[str], path: str, form: str | None = None) -> Stamps:
    """Return the moments of rows whose time stands in several columns.

    Parameters
    ----------
    text : DataFrame
        Cells as text, with the columns `names`.

    Raises
    ------
    BadInput
        For columns that do not make up a time, and for numbers that are no year, month, day or hour.
    """
    columns = dict(zip((role(name) or f"?{name}" for name in names), names, strict=True))
    kinds = list(columns)
    if form is not None:
        return dates.read_stamps(text[list(names)].agg(" ".join, axis=1), path, form)
    if set(kinds) == {"date", "time"}:
        return _date_and_time(text[columns["date"]], text[columns["time"]], path)
    if not _is_complete(kinds) or len(columns) < len(names):
        raise BadInput(
            f"{path}: columns {', '.join(names)} do not make up a time", expected=f"time_column: {EXPECTED}"
        )
    return _of_numbers({kind: text[name] for kind, name in columns.items()}, path)


def _is_complete(kinds: list[str]) -> bool:
    """Whether parts make up a time, from the year on without a gap."""
    clock = [kind for kind in kinds if kind in (*_CLOCK, "time")]
    calendar = {kind for kind in kinds if kind not in clock}
    if calendar in ({"year"}, {"year", "month"}):
        return not clock
    whole_clock = clock == ["time"] or set(clock) == set(_CLOCK[: len(clock)])
    return calendar in ({"year", "month", "day"}, {"year", "doy"}) and whole_clock


def _of_numbers(columns: dict[str, pd.Series], path: str) -> Stamps:
    """Moments of rows with year, month and day or day of the year, and perhaps a time of day."""
    parts = {kind: _numbers(cells, path) for kind, cells in columns.items() if kind not in ("hour", "time")}
    for kind, values in parts.items():
        if kind not in ("doy", "second") or (kind == "doy" and len(columns) > 2):
            _demand(values == np.floor(values), columns[kind], path, f"a whole {kind}")
    first = _dates(columns, parts, path)
    seconds, midnight = _time_of_day(columns, parts, path)
    if "doy" in parts:
        seconds = seconds + (parts["doy"] - 1) * 86400
        year = first.astype("datetime64[Y]")
        length = ((year + 1).astype("datetime64[s]") - year.astype("datetime64[s]")).astype(np.int64)
        ends = (seconds == length) & (len(columns) > 2)  # day 366 at 0:00, the end of day 365
        fits = (parts["doy"] >= 1) & ((seconds < length) | ends)
        _demand(fits, columns["doy"], path, "a day of the year, the first being 1")
    timed = "hour" in columns or "time" in columns or bool((seconds % 86400 != 0).any())
    finest = "day" if {"day", "doy"} & set(parts) else "month" if "month" in parts else "year"
    moments = first + np.rint(seconds).astype("timedelta64[s]")
    return Stamps(moments, "moment" if timed else finest, midnight=midnight)


def _dates(columns: dict[str, pd.Series], parts: dict[str, Array], path: str) -> Array:
    """Dates (N) of year, month and day, the first month and day where there is none."""
    ones = np.ones(len(parts["year"]))
    year, month, day = (parts.get(kind, ones).astype(np.int64) for kind in ("year", "month", "day"))
    first, exists = dates.moments_of(year, month, day)
    if not exists.all():
        row = int((~exists).argmax())
        date = ", ".join(f"{columns[kind].name} {columns[kind].iloc[row]}" for kind in parts)
        raise BadInput(
            f"{path}: the time of data row {row + 1} can't be read: {date}", expected="a date that exists"
        )
    return first


def _time_of_day(columns: dict[str, pd.Series], parts: dict[str, Array], path: str) -> tuple[Array, bool]:
    """Seconds (N) since midnight, and whether they hold an hour of 24."""
    name = "hour" if "hour" in columns else "time" if "time" in columns else ""
    if not name:
        return np.zeros(len(parts["year"])), False
    seconds = _clock(columns[name], path, alone="minute" not in columns)
    if "minute" in parts:
        _demand(seconds % 3600 == 0, columns["hour"], path, "a whole hour, as there is a column of minutes")
        for kind in ("minute", "second"):
            values = parts.get(kind, np.zeros(1))
            if kind in parts:
                _demand((values >= 0) & (values < 60), columns[kind], path, f"a {kind} from 0 to 59")
            seconds = seconds + values * (60 if kind == "minute" else 1)
    _demand(seconds <= 86400, columns[name], path, "at most 24:00")
    return seconds, bool((seconds == 86400).any())


def _date_and_time(date: pd.Series, time: pd.Series, path: str) -> Stamps:
    if time.str.strip().str.fullmatch(r"\d+(?:\.\d+)?").all():
        day = dates.read_stamps(date, path)
        if day.resolution != "day":
            raise BadInput(
                f"{path}: {date.name} is {date.iloc[0]!r}", expected="a date, as time has a column of its own"
            )
        seconds = _clock(time, path, alone=True)
        moments = day.moments + np.rint(seconds).astype("timedelta64[s]")
        return Stamps(moments, "moment", day.utc, day.notes, midnight=bool((seconds == 86400).any()))
    plain = date.str.strip()
    if plain.str.fullmatch(r"\d{8}").all():
        plain = plain.str.replace(r"(\d{4})(\d\d)(\d\d)", r"\1-\2-\3", regex=True)
    return dates.read_stamps(plain + " " + time.str.strip(), path)


def _clock(text: pd.Series, path: str, alone: bool) -> Array:
    """Seconds (N) since midnight of hours (0.5, 24), texts as 12:30, HHMM (30, 2330) that stand `alone`."""
    cells = text.str.strip()
    if cells.str.fullmatch(r"\d{1,2}:\d\d(?::\d\d)?").all():
        parts = [[int(x) for x in cell.split(":")] for cell in cells]
        _demand(np.array([p[1] < 60 and p[-1] < 60 for p in parts]), text, path, "a time of day")
        return np.array([p[0] * 3600 + p[1] * 60 + (p[2] if len(p) > 2 else 0) for p in parts], dtype=float)
    values = _numbers(text, path)
    _demand(values >= 0, text, path, "a time of day")
    if values.max() > 24 and alone:
        _demand(
            (values == np.floor(values)) & (values % 100 < 60) & (values <= 2400),
            text,
            path,
            "HHMM, 0 to 2400",
        )
        return values // 100 * 3600 + values % 100 * 60
    _demand(values <= 24, text, path, "an hour from 0 to 24")
    return np.rint(values * 3600)


def _numbers(text: pd.Series, path: str) -> Array:
    import pandas as pd

    values = pd.to_numeric(text.str.strip().str.replace(",", "."), errors="coerce").to_numpy(dtype=float)
    _demand(np.abs(values) < 1e6, text, path, "a number in every row")
    return values


def _demand(good: Array, text: pd.Series, path: str, expected: str) -> None:
    if not np.all(good):
        row = int(np.flatnonzero(~np.asarray(good))[0])
        raise BadInput(
            f"{path}: the time of data row {row + 1} can't be read: {text.name} is {text.iloc[row]!r}",
            expected=expected,
        )
