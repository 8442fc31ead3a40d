"""The time axis of a CF netCDF file: moments, their calendar, where they stand in their intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations import calendars
from fatescal.observations.readers import intervals
from fatescal.observations.readers.base import Request
from fatescal.observations.readers.dates import Stamps

if TYPE_CHECKING:
    import pandas as pd

_DAY = 86400
_ZONE = re.compile(r"(?<=[\d:])\s*(?:(Z|UTC|GMT)|([+-]\d{1,2}(?::?\d\d)?))\s*$", re.IGNORECASE)
_CLOCK = re.compile(r"\d[T ]+\d{1,2}:")  # a zone can only follow a time of day


def starts(
    data: Any, time: Any, series: Sequence[Any], request: Request, path: str
) -> tuple[pd.DatetimeIndex, list[str]]:
    """Return the start of each row's interval, and notes about it.

    Bounds of the time axis tell the intervals; else the comment of `cell_methods`, the axis' name or
    `request.time_stamp` whether a stamp is the start, middle or end; else the start is assumed.

    Raises
    ------
    BadInput
        For times that are missing, given twice or of a unit or calendar without a day in the world; bounds
        that contradict their stamps; stamps that can hardly be starts where nothing tells what they are.
    """
    import pandas as pd

    unit, calendar = str(time.units), str(getattr(time, "calendar", "standard"))
    if not time.size:
        raise BadInput(f"{path} has no rows: {time.name} is empty")
    if "climatology" in time.ncattrs():
        raise BadInput(f"{path}: {time.name} is of a climatology", expected="a series of measurements")
    moments, utc = _moments(time[:], unit, calendar, time.name, path)
    _require_resolution(time, moments, path)
    twice = pd.DatetimeIndex(moments)
    if twice.has_duplicates:
        first = twice[twice.duplicated()][0]
        raise BadInput(f"{path}: {time.name} has times more than once, the first is {first}")
    bounds = _bounds(data, time, unit, calendar, path)
    notes = [] if calendars.canonical(calendar) == "standard" else [f"calendar {calendar}"]
    notes += ["times of a zone turned to UTC"] * utc
    if bounds is not None:
        moments, position, bounds_notes = _of_bounds(time, moments, bounds, request.time_stamp, path)
        notes += bounds_notes
    else:
        comments = " ".join(c for v in (time, *series) for c in _comments(v))
        position = intervals.position([time.name], [comments], "", "netcdf", request.time_stamp, path)
        if not position.source:
            _require_starts(np.sort(moments), time.name, path)
    index, interval_notes = intervals.starts(
        Stamps(moments, "moment", utc), position, request.time_zone, path
    )
    return index, [*notes, *interval_notes]


def _comments(variable: Any) -> list[str]:
    """What stands in brackets in the cell methods of a variable."""
    return re.findall(r"\(([^)]*)\)", str(getattr(variable, "cell_methods", "")))


def _moments(numbers: Any, unit: str, calendar: str, name: str, path: str) -> tuple[Array, bool]:
    """Moments of numbers in a CF unit as datetime64[s], and whether they are in UTC by the unit."""
    import cftime
    import pandas as pd

    try:
        calendars.canonical(calendar)
    except BadInput:
        raise BadInput(
            f"{path}: {name} has the calendar {calendar!r}, whose days were not measured",
            expected="standard, proleptic_gregorian or noleap",
        ) from None
    values = np.ma.filled(np.ma.asarray(numbers).astype(np.float64), np.nan)
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax()) + 1
        raise BadInput(f"{path}: {name} is missing in row {row}", expected="a time in every row")
    zone = _ZONE.search(unit) if _CLOCK.search(unit) else None
    date = unit if zone is None else unit[: zone.start()]  # cftime passes over +2:00, but reads +02:00
    try:
        dates = cftime.num2date(values, date, calendar, only_use_cftime_datetimes=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(
            f"{path}: {name} in {unit!r} can't be read: {error}",
            expected="days, hours, minutes or seconds since a date",
        ) from error
    moments = calendars.components(np.atleast_1d(dates))
    if zone is not None:
        moments = intervals.to_utc(pd.DatetimeIndex(moments), zone[2] or "UTC").to_numpy()
    return moments.astype("datetime64[s]"), zone is not None


def _require_resolution(time: Any, moments: Array, path: str) -> None:
    """Refuse times as single-precision numbers that can't tell minutes: days since 1900 are minutes apart."""
    if time.dtype == np.float32 and (moments.astype(np.int64) % 60 != 0).any():
        shown = np.unique(moments[moments.astype(np.int64) % 60 != 0])[0]
        raise BadInput(
            f"{path}: {time.name} is stored in single precision, too coarse for its steps: {shown}",
            expected="double precision, or a unit since a nearer date",
        )


def _bounds(data: Any, time: Any, unit: str, calendar: str, path: str) -> Array | None:
    """Start and end (N, 2) of each row's interval; None where the file has none."""
    name = str(getattr(time, "bounds", ""))
    if not name:
        return None
    if name not in data.variables:
        raise BadInput(
            f"{path}: {time.name} names bounds {name!r}, which the file lacks",
            hint="the file with its bounds, or without the attribute and with observations.time_stamp",
        )
    bounds = data[name]
    if bounds.shape != (time.shape[0], 2):
        raise BadInput(f"{path}: {name} has shape {bounds.shape}", expected=f"({time.shape[0]}, 2)")
    edges, _ = _moments(bounds[:].ravel(), str(getattr(bounds, "units", unit)), calendar, name, path)
    return np.sort(edges.reshape(-1, 2), axis=1)


def _of_bounds(
    time: Any, moments: Array, bounds: Array, key: str | None, path: str
) -> tuple[Array, intervals.Position, list[str]]:
    """Starts (N) of the intervals, where they stand, and notes about intervals with gaps."""
    low, high = bounds.T
    for wrong, what in (((moments < low) | (moments > high), "not in"), (low == high, "without length in")):
        if wrong.any():
            row = int(wrong.argmax())
            raise BadInput(
                f"{path}: {time.name} {moments[row]} is {what} its bounds {low[row]} to {high[row]}, row "
                f"{row + 1}",
                hint="correct the bounds, or take them out and give observations.time_stamp",
            )
    middle = low + (high - low) // 2
    where = {"start": low, "middle": middle, "end": high}
    if key is not None and (moments != where[key]).any():
        raise BadInput(
            f"{path}: observations.time_stamp is {key}, but the bounds of {time.name} tell otherwise",
            hint="leave time_stamp out",
        )
    notes, lengths = [], np.unique((high - low).astype(np.int64))
    steps = np.diff(np.sort(low)).astype(np.int64)
    if len(steps) and 1.02 * lengths.max() < steps.min():
        notes = [f"bounds of {lengths.max() / 3600:g} h, rows {steps.min() / 3600:g} h apart"]
    return low, intervals.Position("start", "name", f"intervals by {time.bounds}"), notes


def _require_starts(moments: Array, name: str, path: str) -> None:
    """Refuse stamps that would make odd starts: noon of days, 0:15 of half hours, midst of months, years."""
    seconds = (moments - moments.astype("datetime64[D]")).astype(np.int64)
    steps = np.diff(moments).astype(np.int64)
    step = int(np.median(steps)) if len(steps) else _DAY
    months = moments.astype("datetime64[M]")
    first = months == moments.astype("datetime64[D]")  # of the month
    monthly = len(steps) > 0 and bool((steps >= 28 * _DAY).all())
    if monthly and bool((steps >= 365 * _DAY).all()):
        first &= months == moments.astype("datetime64[Y]")
    elif step > 31 * _DAY or step < 28 * _DAY:
        monthly = False
    odd = seconds % min(max(step, 1), _DAY) != 0
    if odd.all() or (monthly and not first.all()):
        raise BadInput(
            f"{path}: what {name} is of its interval is not told; the first is {moments[0]}, then "
            f"{step / 3600:g} h on",
            expected="observations.time_stamp: start, middle or end",
            hint=f"middle, if {str(moments[0])[11:16]} is the middle of a row",
        )
