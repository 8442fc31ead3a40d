"""How long the rows of a table last, and what their step is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations.calendars import DAY, LEAP_DAY, as_moments, canonical, is_leap


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
    starts = as_moments(starts)
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
    days = _month_days(as_moments(starts))
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
        absent += is_leap(as_moments(leap)) & inside
    return lengths - absent * DAY


def step_description(starts: Array, lengths: Array) -> str:
    """Return how far the rows of a table are apart, as `interval_lengths` tells.

    >>> starts = np.array(["2004-01-01T00", "2004-01-01T01"], "M8[s]")
    >>> step_description(starts, interval_lengths(starts))
    'a row each 1 h'
    """
    months = month_step(starts)
    if months:
        return f"a row each {_MONTH_NAMES.get(months, f'{months} months')}"
    steps, counts = np.unique(lengths, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    written = [f"{step / 3600:g} h" if step % DAY else f"{step // DAY} d" for step in steps[order]]
    if len(written) == 1 or counts[order][0] > 0.99 * len(starts):
        return f"a row each {written[0]}"
    parts = [f"{n} of {w}" for n, w in zip(counts[order][:3], written, strict=False)]
    return f"rows of several lengths: {', '.join(parts)}{' ...' if len(written) > 3 else ''}"


_ALMOST_A_DAY = 23 * 3600  # [s], a local day on which the clock goes forward
_NEAR = 24  # rows on either side, at most, that tell a row's length
_CANDIDATES = 8  # distances that may be lengths, at most: the most common ones
_MONTH_NAMES = {1: "month", 3: "quarter", 12: "year"}
