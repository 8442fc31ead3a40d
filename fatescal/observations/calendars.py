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
    moments = _moments(moments)
    if canonical(calendar) == "standard":
        return np.ones(moments.shape, dtype=bool)
    return ~(_is_leap(moments) & (_day_of_year(moments) == LEAP_DAY))


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
    moments = _moments(moments)
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
    days = days + (_is_leap(first) & (days >= LEAP_DAY))
    return (first + days).astype("datetime64[s]") + seconds % DAY


def day_of_year(moments: npt.ArrayLike) -> Array:
    """Return the day of a 365-day year (0..364); 29 February counts as the 28th.

    >>> day_of_year(["2004-01-01", "2004-02-29", "2004-03-01", "2005-12-31"])
    array([  0,  58,  59, 364])
    """
    moments = _moments(moments)
    day = _day_of_year(moments)
    return day - (_is_leap(moments) & (day >= LEAP_DAY))


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
    found = _FREQUENCY.fullmatch(frequency.strip())
    count, unit, month = int(found[1] or 1) if found else 0, found[2] if found else "", found and found[3]
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


def interval_lengths(starts: npt.ArrayLike) -> Array:
    """Return the time [s] (N, int64) that each row of a table stands for, by its ascending `starts` (N).

    Rows on one day of the month are months, quarters or years, each as long as its own days. Of other
    tables a row lasts as long as the smallest distance that recurs near it: missing rows only lengthen
    distances, and the step may change within a table (hourly years, then half-hourly ones). A row ends with
    the next one's start at the latest, as the last of a year's 8-day composites does. Rows of days or more
    last whole days: a change of the clock is no part of them.

    Raises
    ------
    BadInput
        For a single row, and for months stamped by their last day.

    >>> (interval_lengths(["2003-01-01", "2003-02-01", "2003-03-01", "2003-05-01"]) // DAY).tolist()
    [31, 28, 31, 31]
    >>> hours = np.datetime64("2004-01-01") + np.array([0, 60, 120, 180, 210, 240, 270, 300], "m8[m]")
    >>> (interval_lengths(hours) // 60).tolist()
    [60, 60, 60, 30, 30, 30, 30, 30]
    """
    starts = _moments(starts)
    if len(starts) < 2:
        raise BadInput("the table has a single row", expected="at least two, to know what one stands for")
    distances = np.diff(starts).astype(np.int64)
    months = month_step(starts)
    if months:
        days = _month_days(starts)
        first = days.astype("datetime64[M]")
        ends = (first + months).astype("datetime64[D]") + (days - first.astype("datetime64[D]"))
        lengths = (ends - days).astype(np.int64) * DAY
        return np.minimum(lengths, np.append(np.diff(days).astype(np.int64) * DAY, lengths[-1]))
    if distances.min() >= _ALMOST_A_DAY:
        distances = np.diff(_rounded_days(starts)).astype(np.int64) * DAY
    return _local_steps(distances)


def month_step(starts: npt.ArrayLike) -> int:
    """Return how many months each row of a table stands for, by its ascending `starts` (N); 0 for others.

    Moments that a time zone shifted off midnight belong to the nearest day, or to the one after it.

    >>> month_step(["2003-12-31T22:00", "2004-01-31T22:00", "2004-02-29T22:00"])
    1
    """
    days = _month_days(_moments(starts))
    if not len(days):
        return 0
    counts = np.diff(days.astype("datetime64[M]")).astype(np.int64)
    steps, n = np.unique(counts, return_counts=True)
    return int(steps[n.argmax()])


def _month_days(starts: Array) -> Array:
    """The days that rows of whole months begin with, all of one date; none where the rows aren't months."""
    days = _rounded_days(starts)
    if len(days) < 2 or np.diff(days).min() < np.timedelta64(28, "D"):
        return days[:0]
    if _of_one_date(days):
        return days
    if not _of_one_date(days + 1):
        return days[:0]
    if (starts == days).all():
        raise BadInput(
            f"the rows are months stamped by their last day, the first {days[0]}",
            expected="the first day of each interval",
            hint="time_stamp: end, or write the first day of each month",
        )
    return days + 1  # of a zone far in the east


def _rounded_days(starts: Array) -> Array:
    return (starts + DAY // 2).astype("datetime64[D]")


def _of_one_date(days: Array) -> bool:
    """Whether all days have the same day of the month."""
    dates = days - days.astype("datetime64[M]").astype("datetime64[D]")
    return bool((dates == dates[0]).all())


def _local_steps(distances: Array) -> Array:
    """Lengths (N) of rows at `distances` (N-1): the smallest that recurs in the rows after or before each."""
    common, counts = np.unique(distances, return_counts=True)
    usual = common[counts.argmax()]
    common = np.sort(common[np.argsort(-counts, kind="stable")][:_CANDIDATES])
    matches = (distances[:, None] == common).astype(np.int64)
    totals = np.concatenate([np.zeros((1, len(common)), np.int64), np.cumsum(matches, axis=0)])
    row, n = np.arange(len(distances) + 1), len(distances)
    near = min(_NEAR, max(3, n // 8))
    after = _recurring(totals, row, np.minimum(row + near, n), common)
    before = _recurring(totals, np.maximum(row - near, 0), row, common)
    before = np.where(before > 0, before, np.where(after > 0, after, usual))
    after = np.where(after > 0, after, before)
    following, last = np.append(distances, distances[-1]), np.insert(distances, 0, distances[0])
    gap = (following < after) | (following >= 2 * after)
    ends = (following == before) | ((last == before) & gap)  # of rows of one length
    lengths = np.where(ends, before, after)
    whole = (lengths > DAY) & (following > lengths) & (following < 2 * lengths)  # no row is missing there
    lengths = np.where(whole, following, lengths)  # weeks of a year, dekads of a month
    lengths = np.minimum(lengths, following)
    lengths[-1] = lengths[-2]
    return lengths


def _recurring(totals: Array, lo: Array, hi: Array, common: Array) -> Array:
    """The smallest of the `common` distances that is a fifth of those from `lo` to `hi`; 0 if none is."""
    counts = totals[hi] - totals[lo]
    enough = counts >= np.maximum(2, 0.2 * (hi - lo))[:, None]
    return np.where(enough.any(axis=1), common[enough.argmax(axis=1)], 0)


def elapsed(starts: Array, lengths: Array, calendar: str) -> Array:
    """Return the `lengths` [s] (N) of intervals without the whole days that `calendar` doesn't have.

    >>> int(elapsed(np.array(["2004-02-01"], "M8[s]"), np.array([29 * DAY]), "noleap")[0]) // DAY
    28
    """
    if canonical(calendar) == "standard":
        return lengths
    years = starts.astype("datetime64[Y]")
    absent = np.zeros(len(starts), dtype=np.int64)
    for later in range(int(lengths.max(initial=0)) // (366 * DAY) + 2):
        leap = (years + later).astype("datetime64[D]") + LEAP_DAY
        inside = (starts <= leap) & (starts + lengths >= leap + 1)
        absent += _is_leap(_moments(leap)) & inside
    return lengths - absent * DAY


def step_in_words(starts: Array, lengths: Array) -> str:
    """Return how far the rows of a table are apart, as `interval_lengths` tells.

    >>> starts = np.array(["2004-01-01T00", "2004-01-01T01"], "M8[s]")
    >>> step_in_words(starts, interval_lengths(starts))
    'a row each 1 h'
    """
    months = month_step(starts)
    if months:
        return f"a row each {_MONTH_WORDS.get(months, f'{months} months')}"
    steps, counts = np.unique(lengths, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    written = [f"{step / 3600:g} h" if step % DAY else f"{step // DAY} d" for step in steps[order]]
    if len(written) == 1 or counts[order][0] > 0.99 * len(starts):
        return f"a row each {written[0]}"
    parts = [f"{n} of {w}" for n, w in zip(counts[order][:3], written, strict=False)]
    return f"rows of several lengths: {', '.join(parts)}{' ...' if len(written) > 3 else ''}"


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


_ALMOST_A_DAY = 23 * 3600  # [s], a local day on which the clock goes forward
_NEAR = 24  # rows on either side, at most, that tell a row's length
_CANDIDATES = 8  # distances that may be lengths, at most: the most common ones
_MONTH_WORDS = {1: "month", 3: "quarter", 12: "year"}
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


def _moments(moments: npt.ArrayLike) -> Array:
    return np.asarray(moments, dtype="datetime64[s]")


def _years(moments: Array) -> Array:
    return moments.astype("datetime64[Y]").astype(np.int64)


def _is_leap(moments: Array) -> Array:
    year = _years(moments) + 1970
    return (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))


def _day_of_year(moments: Array) -> Array:
    days = moments.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
