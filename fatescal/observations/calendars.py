"""Model calendars and the windows of time that observations and predictions are averaged over.

A moment is a numpy datetime64[s] that holds the calendar's own year, month, day and time of day, so that a
model day and a measured day of one name are equal. Lengths and middles are taken on the calendar's own
*clock*: seconds since 1970-01-01, in which a noleap calendar has no 29 February.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput

Array = npt.NDArray[Any]

DAY = 86400  # [s]
LEAP_DAY = 59  # of a leap year, counted from 0
_NAMES = {
    **dict.fromkeys(("standard", "gregorian", "proleptic_gregorian"), "standard"),
    **dict.fromkeys(("noleap", "365_day"), "noleap"),
}


def canonical(calendar: str) -> str:
    """Return 'standard' or 'noleap' for a CF calendar.

    Raises
    ------
    BadInput
        For calendars with days that were never measured (360_day, all_leap) or shifted ones (julian).

    >>> canonical("365_day"), canonical("proleptic_gregorian")
    ('noleap', 'standard')
    """
    try:
        return _NAMES[calendar.lower()]
    except KeyError:
        raise BadInput(
            f"calendar {calendar!r} can't be compared with measured days",
            expected=f"one of {', '.join(_NAMES)}",
            hint="run the model with calendar noleap or standard",
        ) from None


def exists(moments: npt.ArrayLike, calendar: str) -> Array:
    """Return whether each moment exists in the calendar: all but 29 February of noleap.

    >>> exists(["2004-02-28T12", "2004-02-29T12"], "noleap")
    array([ True, False])
    """
    moments = as_moments(moments)
    if canonical(calendar) == "standard":
        return np.ones(moments.shape, dtype=bool)
    return ~(is_leap(moments) & (_day_of_year(moments) == LEAP_DAY))


def clock(moments: npt.ArrayLike, calendar: str) -> Array:
    """Return seconds since 1970-01-01 (int64) on the calendar's own clock; `date` is the inverse.

    Raises
    ------
    ValueError
        If a moment doesn't exist in the calendar.

    >>> feb, march = clock(["2004-02-28", "2004-03-01"], "noleap")
    >>> int(march - feb) == DAY
    True
    """
    moments = as_moments(moments)
    if canonical(calendar) == "standard":
        return moments.astype(np.int64)
    if not exists(moments, calendar).all():
        raise ValueError("29 February has no place in a noleap calendar")
    days = 365 * _years(moments) + day_of_year(moments)
    return days * DAY + (moments - moments.astype("datetime64[D]")).astype(np.int64)


def date(seconds: npt.ArrayLike, calendar: str) -> Array:
    """Return the moments (datetime64[s]) at `seconds` since 1970-01-01 on the calendar's clock.

    >>> date(clock(["2004-03-01"], "noleap") - DAY, "noleap")
    array(['2004-02-28T00:00:00'], dtype='datetime64[s]')
    """
    seconds = np.asarray(seconds, dtype=np.int64)
    if canonical(calendar) == "standard":
        return seconds.astype("datetime64[s]")
    years, days = np.divmod(seconds // DAY, 365)
    first = years.astype("datetime64[Y]").astype("datetime64[D]")
    days = days + (is_leap(first) & (days >= LEAP_DAY))
    return (first + days).astype("datetime64[s]") + seconds % DAY


def day_of_year(moments: npt.ArrayLike) -> Array:
    """Return the day of a 365-day year (0..364); 29 February counts as the 28th.

    >>> day_of_year(["2004-01-01", "2004-02-29", "2004-03-01", "2005-12-31"])
    array([  0,  58,  59, 364])
    """
    moments = as_moments(moments)
    day = _day_of_year(moments)
    return day - (is_leap(moments) & (day >= LEAP_DAY))


def components(times: Array) -> Array:
    """Return decoded times (cftime objects or datetime64, any shape) as datetime64[s] of the same components.

    Read by attribute: eight times as fast as `cftime.date2num`. Rounded to the nearest second.
    """
    times = np.asarray(times)
    if times.dtype.kind == "M":
        return (times.astype("datetime64[ns]") + np.timedelta64(500, "ms")).astype("datetime64[s]")
    parts = [(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond) for t in times.ravel()]
    year, month, day, hour, minute, second, micro = np.array(parts, dtype=np.int64).reshape(-1, 7).T
    months = (12 * (year - 1970) + month - 1).astype("datetime64[M]").astype("datetime64[s]")
    seconds = (day - 1) * DAY + 3600 * hour + 60 * minute + second + (micro >= 500_000)
    return (months + seconds).reshape(times.shape)


def windows(first: object, last: object, frequency: str, calendar: str) -> tuple[Array, Array]:
    """Return start and end (W), datetime64[s], of the whole windows [start, end) from `first` to `last`.

    Windows of fixed length ('30min', '1D', '8D') are counted from the start of `first` on the calendar's
    clock; those of months, quarters and years ('MS' or '1M', 'QS-DEC', 'YS') begin with them. A window that
    isn't wholly within the period is left out: its error would be another.

    Parameters
    ----------
    first, last : date, str or datetime64
        Days, both inclusive.
    frequency : str
        As pandas spells them, old and new.

    Raises
    ------
    BadInput
        For a reversed period, one shorter than a window, a day absent in the calendar, an unusable frequency.

    >>> start, end = windows("2004-02-27", "2004-03-02", "2D", "noleap")
    >>> [str(day) for day in start.astype("datetime64[D]")], str(end[-1])
    (['2004-02-27', '2004-03-01'], '2004-03-03T00:00:00')
    >>> start, end = windows("2004-01-15", "2005-01-31", "QS-DEC", "standard")
    >>> [str(day) for day in start.astype("datetime64[D]")], str(end[-1])
    (['2004-03-01', '2004-06-01', '2004-09-01'], '2004-12-01T00:00:00')
    """
    begin, stop = period(first, last, calendar)
    match = _FREQUENCY.fullmatch(frequency.strip())
    count, unit, month = int(match[1] or 1) if match else 0, match[2] if match else "", match and match[3]
    if count and unit in _SECONDS and not month:
        span = clock([begin, stop], calendar)
        edges = date(np.arange(span[0], span[1] + 1, count * _SECONDS[unit], dtype=np.int64), calendar)
    elif count and unit in _MONTHS and (not month or (unit.endswith("S") and month in _MONTH_NAMES)):
        edges = _month_edges(begin, stop, count, _MONTHS[unit], _MONTH_NAMES.index(month or "JAN"))
    else:
        raise BadInput(
            f"window {frequency!r} can't be used",
            expected="a length like '30min', '3h', '1D', '8D', or whole months, quarters or years: "
            "'MS', 'QS-DEC', 'YS'",
        )
    if len(edges) < 2:
        raise BadInput(f"the period {first} to {last} is shorter than one whole window of {frequency}")
    return edges[:-1], edges[1:]


def period(first: object, last: object, calendar: str) -> tuple[np.datetime64, np.datetime64]:
    """Return the half-open [begin, stop) of the inclusive days `first` to `last`; errors as `windows`.

    >>> [str(day) for day in period("2004-01-01", "2004-02-28", "noleap")]
    ['2004-01-01T00:00:00', '2004-03-01T00:00:00']
    """
    try:
        begin, stop = (np.datetime64(str(day), "D") for day in (first, last))
    except ValueError as error:
        raise BadInput(
            f"the period {first} to {last} can't be read", expected="days like 2004-01-31"
        ) from error
    if stop < begin:
        raise BadInput(f"the period {first} to {last} is reversed", hint=f"{last} to {first}")
    if not exists(begin, calendar):
        raise BadInput(f"{first} does not exist in the calendar {calendar}", hint="begin on 1 March")
    stop = stop + (1 if exists(stop + 1, calendar) else 2)
    return begin.astype("datetime64[s]"), stop.astype("datetime64[s]")


def spans(middles: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """Return lo, hi (W): the records `middles[lo:hi]` (N, ascending) lie within each window [start, end)."""
    return np.searchsorted(middles, start, side="left"), np.searchsorted(middles, end, side="left")


def sums(values: Array, lo: Array, hi: Array) -> Array:
    """Return the sums (W) of `values[lo:hi]`, 0 where that is empty; windows in any order.

    Summed window by window: differences of one running sum would leave rounding errors of the whole series.

    >>> sums(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 3]), np.array([3, 1, 3]))
    array([6., 1., 0.])
    """
    pairs = np.column_stack([lo, hi]).ravel()
    return np.where(hi > lo, np.add.reduceat(np.append(values, 0), pairs)[::2], 0) if len(lo) else np.zeros(0)


_FREQUENCY = re.compile(r"(\d*)([A-Za-z]+)(?:-([A-Z]{3}))?")
_SECONDS = {"s": 1, "S": 1, "min": 60, "T": 60, "h": 3600, "H": 3600, "D": DAY, "d": DAY}
_MONTHS = {"MS": 1, "ME": 1, "M": 1, "QS": 3, "QE": 3, "Q": 3, "YS": 12, "YE": 12, "Y": 12, "A": 12, "AS": 12}
_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _month_edges(begin: np.datetime64, stop: np.datetime64, count: int, months: int, anchor: int) -> Array:
    """Starts of every `count`-th month, quarter or year in [begin, stop], from the first that is whole."""
    first, last = begin.astype("datetime64[M]"), stop.astype("datetime64[M]")
    low, high = int(first.astype(np.int64)), int(last.astype(np.int64))
    low += int(first < begin)  # the rest of a month that has begun
    low += (anchor - low) % months
    return np.arange(low, high + 1, count * months).astype("datetime64[M]").astype("datetime64[s]")


def as_moments(moments: npt.ArrayLike) -> Array:
    return np.asarray(moments, dtype="datetime64[s]")


def _years(moments: Array) -> Array:
    return moments.astype("datetime64[Y]").astype(np.int64)


def is_leap(moments: Array) -> Array:
    year = _years(moments) + 1970
    return (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))


def _day_of_year(moments: Array) -> Array:
    days = moments.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
