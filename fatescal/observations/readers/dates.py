"""Texts of moments, read by the whole column: digits alone, names of months, day or month first, offsets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array

if TYPE_CHECKING:
    import pandas as pd

HINT = "write all times as 2004-01-31 or 2004-01-31 12:30, or name their form: time_format: '%d.%m.%Y %H:%M'"
DIGITS = {  # forms of times that are digits alone, by their number
    4: ("YYYY",),
    6: ("YYYYMM", "YYMMDD", "DDMMYY", "MMDDYY"),
    7: ("YYYYJJJ",),
    8: ("YYYYMMDD", "DDMMYYYY", "MMDDYYYY"),
    10: ("YYYYMMDDhh", "YYMMDDhhmm", "DDMMYYhhmm", "MMDDYYhhmm"),
    12: ("YYYYMMDDhhmm", "DDMMYYYYhhmm", "MMDDYYYYhhmm"),
    14: ("YYYYMMDDhhmmss", "DDMMYYYYhhmmss", "MMDDYYYYhhmmss"),
}
FIRST_YEAR, LAST_YEAR = 1700, 2300
_PIVOT = 69  # two-digit years from here on are of the last century, as in POSIX
_PLAIN = {"YYYY", "YYYYMMDD", "YYYYMMDDhhmm", "YYYYMMDDhhmmss"}  # unambiguous


@dataclass(frozen=True)
class Stamps:
    """Moments of a column, in the order of its rows.

    Attributes
    ----------
    moments : array (N) of datetime64[s]
        UTC where `utc`, else as written.
    resolution : str
        'year', 'month' or 'day' where the texts name whole ones, else 'moment'.
    notes : tuple of str
        Notes about how they were read.
    midnight : bool
        Whether an hour of 24 occurs, which the end of an interval may have, but not its start.
    """

    moments: Array
    resolution: str
    utc: bool = False
    notes: tuple[str, ...] = ()
    midnight: bool = False


def read_stamps(text: pd.Series, path: str, form: str | None = None, year_first: bool = False) -> Stamps:
    """Return the moments of a column of texts.

    Parameters
    ----------
    form : str, optional
        As strptime has it, '%d/%m/%Y %H:%M'.
    year_first : bool
        Whether digits alone begin with a year of four digits, as in files of FLUXNET.

    Raises
    ------
    BadInput
        For a text that can't be read, forms that differ between rows, and a column that can be read in
        several ways.
    """
    cells = text.str.strip()
    if form is not None:
        return _of_form(cells, path, form)
    if cells.str.fullmatch(r"\d+(?:\.0+)?").all():
        return _of_digits(cells.str.replace(r"\.0+$", "", regex=True), path, year_first)
    midnight = cells.str.contains(r"[T ]24:00(?::00)?(?:\.0+)?$", regex=True).to_numpy(dtype=bool)
    if midnight.any():
        cells = cells.str.replace(r"([T ])24:00(:00)?(?:\.0+)?$", r"\g<1>00:00\2", regex=True)
    stamps = _of_iso(cells, path) if cells.str.fullmatch(_ISO).all() else _of_parts(cells, path)
    moments = stamps.moments + midnight * np.timedelta64(1, "D")
    return replace(stamps, moments=moments, midnight=bool(midnight.any()))


def unreadable(path: str, cells: pd.Series, row: int) -> BadInput:
    """Return the error for the text in one row (from 0)."""
    cell, hint = str(cells.iloc[row]), HINT
    if re.fullmatch(r"\d(?:\.\d+)?[eE]\+?\d+", cell):
        hint = f"a spreadsheet rounded it: export the file anew with times as text; {HINT}"
    elif re.fullmatch(r"\d+\.\d+", cell):
        hint = f"decimal years, and days since some date, are not read: {HINT}"
    return BadInput(f"{path}: the time {cell!r} in data row {row + 1} can't be read", hint=hint)


def moments_of(
    year: Array,
    month: Array,
    day: Array,
    hour: Array | int = 0,
    minute: Array | int = 0,
    second: Array | int = 0,
) -> tuple[Array, Array]:
    """Return moments (N) of whole numbers (N), and which of them exist; the hour may be 24 at 24:00:00."""
    exists = (year >= FIRST_YEAR) & (year <= LAST_YEAR) & (month >= 1) & (month <= 12) & (day >= 1)
    months = ((np.where(exists, year, 1970) - 1970) * 12 + np.where(exists, month, 1) - 1).astype(
        "datetime64[M]"
    )
    length = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    late = (hour == 24) & (minute == 0) & (second == 0)
    exists = exists & (day <= length) & ((hour < 24) | late) & (minute < 60) & (second < 60)
    seconds = (day - 1) * 86400 + hour * 3600 + minute * 60 + second
    return months.astype("datetime64[s]") + np.where(exists, seconds, 0).astype("timedelta64[s]"), exists


_OFFSET = r"(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)"
_ISO = rf"\d{{4}}-\d\d(?:-\d\d(?:[T ]\d\d:?\d\d(?::?\d\d(?:\.\d*)?)?\s?{_OFFSET}?)?)?"


def _of_iso(cells: pd.Series, path: str) -> Stamps:
    import pandas as pd

    utc = _all_or_none(cells.str.contains(rf"\d[T ].*{_OFFSET}$", regex=True).to_numpy(dtype=bool), path)
    plain = cells.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True) if utc else cells
    times = pd.to_datetime(plain, format="ISO8601", errors="coerce", utc=True)  # mixed lengths are welcome
    if times.isna().any():
        raise unreadable(path, cells, int(times.isna().to_numpy().argmax()))
    longest = int(cells.str.len().max())
    resolution = {7: "month", 10: "day"}.get(longest, "moment")
    return Stamps(
        pd.DatetimeIndex(times).tz_localize(None).to_numpy().astype("datetime64[s]"), resolution, utc
    )


def _all_or_none(has_offset: Array, path: str) -> bool:
    if has_offset.any() and not has_offset.all():
        raise BadInput(f"{path}: some times have an offset, others don't", hint="write all times alike")
    return bool(has_offset.any())


def _of_form(cells: pd.Series, path: str, form: str) -> Stamps:
    """Moments of texts in a form that the config names."""
    import pandas as pd

    try:
        times = pd.to_datetime(cells, format=form, errors="coerce", utc=True)
    except ValueError as error:
        raise BadInput(f"observations.time_format {form!r} can't be used: {error}") from error
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise BadInput(
            f"{path}: the time {cells.iloc[row]!r} in data row {row + 1}",
            expected=f"the time_format {form!r}",
        )
    used = set(re.findall(r"%-?([A-Za-z])", form))
    finest = "moment" if used & set("HIMSTXcsf") else "day" if used & set("djxDFuwaA") else "month"
    resolution = finest if finest != "month" or used & set("mbB") else "year"
    moments = pd.DatetimeIndex(times).tz_localize(None).to_numpy().astype("datetime64[s]")
    return Stamps(moments, resolution, utc="z" in used)


def _of_digits(cells: pd.Series, path: str, year_first: bool) -> Stamps:
    lengths = sorted(set(cells.str.len()))
    if len(lengths) > 1 or lengths[0] not in DIGITS:
        raise BadInput(
            f"{path}: times as {cells.iloc[0]!r} have {' or '.join(map(str, lengths))} digits",
            expected=f"one of {', '.join(forms[0] for forms in DIGITS.values())} in all rows",
            hint=HINT,
        )
    numbers = cells.astype(np.int64).to_numpy()
    forms = DIGITS[lengths[0]][: 1 if year_first else None]
    read = {form: _digits(numbers, form) for form in forms}
    form, moments = _only(read, cells, path)
    resolution = "moment" if "h" in form else {"YYYY": "year", "YYYYMM": "month"}.get(form, "day")
    if form == "YYYYMM" and year_first:
        return Stamps(moments, resolution)
    note = () if form in _PLAIN else (f"{cells.iloc[0]} read as {form}",)
    return Stamps(moments, resolution, notes=note)


def _digits(numbers: Array, form: str) -> tuple[Array, Array]:
    """Moments of whole numbers (N) in a form as 'YYYYMMDDhh', and which of them exist."""

    def part(mark: str) -> Array:
        end, count = form.rfind(mark) + 1, form.count(mark)
        return numbers // 10 ** (len(form) - end) % 10**count if count else np.ones_like(numbers)

    clock = [part(mark) if mark in form else np.zeros_like(numbers) for mark in "hms"]
    year = part("Y")
    year = _of_century(year) if form.count("Y") == 2 else year
    if "J" not in form:
        return moments_of(year, part("M"), part("D"), *clock)
    first, exists = moments_of(year, np.ones_like(year), np.ones_like(year))
    moments = first + ((part("J") - 1) * 86400).astype("timedelta64[s]")
    same_year = moments.astype("datetime64[Y]") == first.astype("datetime64[Y]")
    return moments, exists & same_year & (part("J") > 0)


def _of_century(year: Array) -> Array:
    return year + np.where(year < _PIVOT, 2000, 1900)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_BETWEEN = r"(?:\.?[\s./,_-]+|(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d))"
_PARTS = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
    rf"(\d{{1,4}}|[a-z]{{3,9}}){_BETWEEN}(\d{{1,4}}|[a-z]{{3,9}})"
    rf"(?:{_BETWEEN}(\d{{4}}|\d{{1,2}}|[a-z]{{3,9}}))?"
    r"(?:[\sT,:]+(\d{1,2})[:.](\d\d)(?::(\d\d)(?:\.\d*)?)?\s*(am|pm)?)?"
    rf"\s*({_OFFSET})?",
    re.IGNORECASE,
)
_MONTH_FRACTION = re.compile(r"\d{4}\.\d{1,2}|\d{1,2}\.\d{4}")  # a year and a month, or a number
_ORDERS = {"year, month, day": "ymd", "day, month, year": "dmy", "month, day, year": "mdy"}


def _of_parts(cells: pd.Series, path: str) -> Stamps:
    """Moments of dates of two or three parts in any order, with or without a time of day."""
    matches = [None if _MONTH_FRACTION.fullmatch(cell) else _PARTS.fullmatch(cell) for cell in cells]
    if None in matches:
        raise unreadable(path, cells, matches.index(None))
    parts = np.array([m.groups("") for m in matches if m], dtype=object).T
    shape = _shape(parts[:3], cells, path)
    orders = {"year, month": "ym", "month, year": "my"} if shape[2] == "-" else _ORDERS
    fitting = {w: o for w, o in orders.items() if all(_fits(p, k) for p, k in zip(shape, o, strict=False))}
    date = [_part(row) for row in parts[: 2 if shape[2] == "-" else 3]]
    clock = _clock(parts[3:7])
    read = {w: _ordered(date, order, clock, shape) for w, order in fitting.items()}
    order, moments = _only(read, cells, path)
    utc = _all_or_none(parts[7] != "", path)
    if utc:
        moments = moments - np.array([_seconds(text) for text in parts[7]]).astype("timedelta64[s]")
    resolution = "moment" if any(parts[3]) else "month" if shape[2] == "-" else "day"
    certain = "4" in shape[:1] or ("a" in shape and "4" in shape) or shape[2] == "-"
    return Stamps(moments, resolution, utc, () if certain else (f"{cells.iloc[0]} read as {order}",))


def _shape(parts: Array, cells: pd.Series, path: str) -> str:
    """What the parts of all dates (3, N) are: 'a' letters, '4' four digits, '2' fewer, '-' nothing."""
    shapes = [
        "".join("a" if p.isalpha() else "4" if len(p) == 4 else "2" if p else "-" for p in d) for d in parts.T
    ]
    other = next((k for k, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        raise BadInput(
            f"{path}: dates are written in several ways, {cells.iloc[0]!r} and {cells.iloc[other]!r}",
            hint=HINT,
        )
    return shapes[0]


def _clock(parts: Array) -> list[Array]:
    """Hour, minute and second (N) of texts (4, N) of these and am or pm."""
    hour, minute, second = (np.array([int(text or 0) for text in row]) for row in parts[:3])
    half = np.char.lower(parts[3].astype(str))
    return [np.where(half == "", hour, hour % 12 + 12 * (half == "pm")), minute, second]


def _fits(shape: str, kind: str) -> bool:
    """Whether a part can be the year, month or day."""
    return {"a": kind == "m", "4": kind == "y"}.get(shape, True)


def _part(row: Array) -> Array:
    """Whole numbers (N) of a date's part; 0 for what is no name of a month."""
    names = {name: k + 1 for k, name in enumerate(_MONTHS)}
    return np.array([names.get(p[:3].lower(), 0) if p.isalpha() else int(p) for p in row], dtype=np.int64)


def _ordered(date: list[Array], order: str, clock: list[Array], shape: str) -> tuple[Array, Array]:
    part = dict(zip(order, date, strict=True))
    year = part["y"] if shape[order.index("y")] == "4" else _of_century(part["y"])
    return moments_of(year, part["m"], part.get("d", np.ones_like(year)), *clock)


def _seconds(offset: str) -> int:
    match = re.fullmatch(r"([+-])(\d\d):?(\d\d)?", offset)
    if not match:
        return 0
    return (-1 if match[1] == "-" else 1) * (int(match[2]) * 3600 + int(match[3] or 0) * 60)


def _only(read: Mapping[str, tuple[Array, Array]], cells: pd.Series, path: str) -> tuple[str, Array]:
    """The only way to read a column: all dates exist, or also ascend, or also have even steps.

    Raises
    ------
    BadInput
        If there is none, or several are left.
    """
    whole = {form: moments for form, (moments, exists) in read.items() if exists.all()}
    if not whole:
        nowhere = ~np.any([exists for _, exists in read.values()] or [np.zeros(len(cells), bool)], axis=0)
        if nowhere.any():
            raise unreadable(path, cells, int(nowhere.argmax()))
        raise BadInput(f"{path}: some dates begin with the day, others with the month", hint=HINT)
    ascending = {
        form: moments for form, moments in whole.items() if (np.diff(moments).astype(int) >= 0).all()
    }
    even = {form: moments for form, moments in ascending.items() if _is_even(moments)}
    for left in (whole, ascending, even):
        if len(left) == 1:
            return next(iter(left.items()))
    ways = " or ".join(f"{moments[0].astype('datetime64[D]')} ({form})" for form, moments in whole.items())
    raise BadInput(f"{path}: whether {cells.iloc[0]!r} is {ways} can't be told from this table", hint=HINT)


def _is_even(moments: Array) -> bool:
    """Whether moments are one step apart, of a fixed time or of months."""
    months = moments.astype("datetime64[M]")
    steps = [np.diff(moments).astype(np.int64)]
    if (moments == months).all():
        steps.append(np.diff(months).astype(np.int64))
    return any(len(set(step.tolist())) == 1 and step[0] > 0 for step in steps)
