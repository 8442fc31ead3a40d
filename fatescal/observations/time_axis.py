"""The time axis of a model's output: its records, their intervals, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.types import Array
from fatescal.observations import calendars, missing_codes

if TYPE_CHECKING:
    import xarray as xr

LATEST = 1e13  # s from the epoch of its unit at which a time can be: beyond it is garbage
PLAIN = 2  # s by which records may differ and still count as equally long: rounding of their bounds
GAP = 0.25  # of a record that may lie between two, or be in both: rounding of bounds in single precision
FOREVER = 10**11  # s
MONTH = (28 * calendars.DAY, 31 * calendars.DAY)


class TimeAxis(NamedTuple):
    """The records of a history in order of time, on the clock of the windows' calendar."""

    records: Array  # (N) their index in the history
    middle: Array  # (N) [s]
    length: Array  # (N) [s]
    gaps: Array  # (G, 2) begin and end of what lies between two records [s]
    calendar: str  # the history's own


def time_axis(history: xr.Dataset, calendar: str) -> TimeAxis:
    if "time" not in history.variables or history["time"].dims != ("time",):
        raise ModelFailed(
            Status.MISSING_VARIABLE,
            f"the output has no time axis 'time'; it has {listed(history.variables)}",
        )
    time = history["time"]
    bounds = time.attrs.get("bounds") or time.encoding.get("bounds")
    if bounds and (bounds not in history.variables or history[bounds].shape != (time.size, 2)):
        raise ModelFailed(  # the stamps alone may be a day off, which no later check would see
            Status.MISSING_VARIABLE,
            f"the output has no {bounds!r} (time, 2), which 'time' names as its bounds",
        )
    edges: Array | None
    stamps, own = clocked(time, time, "time")
    if bounds:
        edges, own = clocked(history[bounds], time, bounds)
        length = edges[:, 1] - edges[:, 0]
        _require_bounds(stamps, edges, own)
        whole = length > 0
        middle = edges[:, 0] + length // 2
    else:
        edges, length = _lengths(stamps, own)
        whole, middle = np.ones(len(stamps), dtype=bool), stamps
    _require_rising(middle[whole], own)
    moments = calendars.date(middle, own)
    records = np.flatnonzero(whole & calendars.exists(moments, calendar))
    gaps = np.empty((0, 2), np.int64) if edges is None else _gaps(edges[whole], own, calendar)
    return TimeAxis(records, calendars.clock(moments[records], calendar), length[records], gaps, own)


def _lengths(stamps: Array, own: str) -> tuple[Array | None, Array]:
    """Return the bounds (N, 2) that stamps without any have by the calendar, or None, and the lengths (N)."""
    steps = np.diff(stamps)
    months = calendars.date(stamps, own).astype("datetime64[M]")
    if len(steps) and MONTH[0] <= np.min(steps) and np.min(np.diff(months.astype(np.int64))) == 1:
        first, after = months, months + 1
    elif len(steps) and 365 * calendars.DAY <= np.min(steps) <= 366 * calendars.DAY:
        years = months.astype("datetime64[Y]")
        first, after = years.astype("datetime64[M]"), (years + 1).astype("datetime64[M]")
    else:
        return None, np.full(len(stamps), int(np.median(steps)) if len(steps) else 0)
    days = np.column_stack([first, after]).astype("datetime64[s]")
    edges = calendars.clock(days, own)
    return edges, edges[:, 1] - edges[:, 0]


def _require_bounds(stamps: Array, edges: Array, own: str) -> None:
    """Refuse bounds that are reversed, or that a stamp lies far outside of: one of the two is wrong."""
    length = edges[:, 1] - edges[:, 0]
    reversed_ = length < 0
    outside = (stamps < edges[:, 0] - length) | (stamps > edges[:, 1] + length)
    for wrong, defect in ((reversed_, "end before they begin"), (outside, "do not hold their time")):
        if wrong.any():
            k = int(np.argmax(wrong))
            begin, end = calendars.date(edges[k], own)
            raise ModelFailed(
                Status.TRUNCATED,
                f"the bounds of {np.count_nonzero(wrong)} of {len(stamps)} records {defect}, "
                f"first of record {k + 1}: time {calendars.date(stamps[k : k + 1], own)[0]}, "
                f"bounds {begin} to {end}",
            )


def _require_rising(middle: Array, own: str) -> None:
    """Refuse records that are out of order or there twice."""
    wrong = np.diff(middle) <= 0
    if wrong.any():
        k = int(np.argmax(wrong))
        before, after = calendars.date(middle[[k, k + 1]], own)
        raise ModelFailed(
            Status.TRUNCATED,
            f"the time axis holds records twice or out of order: record {k + 2} of {after} follows on "
            f"{before}. Joined from overlapping runs?",
        )


def _gaps(edges: Array, own: str, calendar: str) -> Array:
    """Return what lies between records, before the first and after the last (G, 2), on the windows' clock."""
    length = edges[:, 1] - edges[:, 0]
    between = edges[1:, 0] - edges[:-1, 1]
    most = np.maximum(GAP * np.minimum(length[1:], length[:-1]), 1)
    if (between < -most).any():
        k = int(np.argmax(between < -most))
        raise ModelFailed(
            Status.TRUNCATED,
            f"the intervals of records {k + 1} and {k + 2} overlap, at "
            f"{calendars.date(edges[k + 1, :1], own)[0]}: joined from overlapping runs?",
        )
    spare = most.astype(np.int64) // 2  # windows begin and end where records do, but for rounding
    gaps = np.column_stack([edges[:-1, 1] + spare, edges[1:, 0] - spare])[between > most]
    if len(edges):  # a record would belong to a window that holds its middle
        first, last = edges[0, 0] - length[0] // 2, edges[-1, 1] + length[-1] // 2
        gaps = np.vstack([[first - FOREVER, first], gaps, [last, last + FOREVER]])
    moments = calendars.date(gaps, own)
    leap = ~calendars.exists(moments, calendar)  # the windows' calendar goes on with 1 March
    moments = np.where(leap, moments.astype("datetime64[D]").astype("datetime64[s]") + calendars.DAY, moments)
    return calendars.clock(moments, calendar)


def clocked(times: xr.DataArray, time: xr.DataArray, name: str) -> tuple[Array, str]:
    """Return `times` (stamps or bounds) on their calendar's clock [s], and the calendar.

    What bounds don't say of unit and calendar, `time` does.
    """
    values = np.asarray(times.values)
    attributes = {**time.encoding, **time.attrs, **times.attrs}
    calendar, unit = str(attributes.get("calendar", "standard")), str(attributes.get("units", ""))
    try:
        if values.dtype.kind == "O" and all(hasattr(moment, "calendar") for moment in values.flat):
            own = calendars.canonical(values.flat[0].calendar if values.size else calendar)
            return calendars.clock(calendars.components(values), own), own
        if values.dtype.kind == "M":
            _require_times(np.isnat(values), name)
            return calendars.clock(calendars.components(values), "standard"), "standard"
        if values.dtype.kind not in "iuf":
            raise ValueError("it holds text")
        _require_times(missing_codes.fills(values), name)
        return _decoded(values, unit, calendars.canonical(calendar)), calendars.canonical(calendar)
    except BadInput as error:
        raise ModelFailed(Status.WRONG_UNIT, f"the time axis: {error}") from error
    except (
        ValueError,
        OverflowError,
        TypeError,
    ) as error:  # TypeError: of cftime, for units that are garbage
        message = f"the time axis has unit {unit!r}: {error}. Expected 'days since 2004-01-01' or the like"
        raise ModelFailed(Status.WRONG_UNIT, message) from error


def _require_times(missing_: Array, name: str) -> None:
    if missing_.any():
        n = np.count_nonzero(missing_.reshape(len(missing_), -1).any(axis=1))
        raise ModelFailed(
            Status.TRUNCATED,
            f"{name!r} is NaN or a fill value in {n} of {len(missing_)} records: they were never written",
        )


def _decoded(values: Array, unit: str, calendar: str) -> Array:
    """Return numbers in a CF time unit on the calendar's clock [s]."""
    import cftime

    zero, one = calendars.clock(calendars.components(cftime.num2date([0, 1], unit, calendar)), calendar)
    seconds = values * float(one - zero)
    if (np.abs(seconds) > LATEST).any():
        raise ValueError(f"{values[np.abs(seconds) > LATEST][0]:g} is no time")
    return zero + np.rint(seconds).astype(np.int64)


def ends(axis: TimeAxis, calendar: str) -> str:
    first, last = calendars.date(axis.middle[[0, -1]], calendar)
    return f"{first} to {last}, one every {np.median(axis.length) / 3600:g} h"


def listed(names: Iterable[Hashable]) -> str:
    return ", ".join(str(name) for name in names) or "nothing"
