"""Model output on the observations' windows, in the observations' units: what can be compared.

Everything a model can get wrong about names, units, calendars and lengths is met here, and said in words.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.types import Array
from fatescal.observations import calendars, missing_codes, units
from fatescal.storage.records import ObservationGrid

if TYPE_CHECKING:
    import xarray as xr

LATEST = 1e13  # s from the epoch of its unit at which a time can be: beyond it is garbage
PLAIN = 2  # s by which records may differ and still count as equally long: rounding of their bounds
GAP = 0.25  # of a record that may lie between two, or be in both: rounding of bounds in single precision
FOREVER = 10**11  # s
MONTH = (28 * calendars.DAY, 31 * calendars.DAY)


def align(history: xr.Dataset, grid: ObservationGrid, names: Mapping[str, str], calendar: str) -> Array:
    """Return the predictions (D) of one model run, in the unit of each observation.

    A record belongs to the window that holds the middle of its interval, given by the bounds that the time
    coordinate names; records of zero length (CLM's first) are left out. Without bounds the stamp decides, so
    stamps at the end of an interval need bounds; one stamp a month or a year means the calendar month or
    year. A window's prediction is the mean of its records, weighted by their length where that varies.

    Parameters
    ----------
    history : Dataset
        Variables with ``units`` and a ``time`` coordinate, decoded (datetime64, cftime) or not.
    grid : ObservationGrid
        The windows, made for `calendar`; `Observations` are one.
    names : mapping
        The model's name of each observed variable.
    calendar : str
        The calendar the windows were made for. Records of a 29 February it doesn't have are left out.

    Raises
    ------
    ModelFailed
        MISSING_VARIABLE, WRONG_UNIT, TRUNCATED (the time axis is damaged or doesn't fill every window once)
        or NON_FINITE.
    """
    axis = _time_axis(history, calendar)
    start, end = (calendars.clock(edges, calendar) for edges in (grid.start, grid.end))
    lo, hi = calendars.spans(axis.middle, start, end)
    _check_filled(axis, grid, (lo, hi), (start, end), calendar)
    predictions = np.empty(len(grid))
    for variable in dict.fromkeys(grid.variable.tolist()):
        rows = np.flatnonzero(grid.variable == variable)
        series = _series(history, names[variable])
        values = np.asarray(series.values, dtype=np.float64)[axis.records]
        lacking, codes = missing_codes.undeclared(values)
        _check_finite(names[variable], lacking, codes, grid.select(rows), lo[rows], hi[rows])
        values = np.where(lacking, 0.0, values)  # what is missing lies in no window
        means = _means(values, axis.length, lo[rows], hi[rows])
        predictions[rows] = _in_unit(means, series, str(grid.unit[rows[0]]))
    return predictions


def _means(values: Array, length: Array, lo: Array, hi: Array) -> Array:
    """Return the means (W) of `values[lo:hi]` (N), weighted by their length [s] where that varies."""
    means = calendars.sums(values, lo, hi) / (hi - lo)
    changes = np.append(0, np.abs(np.diff(length)) > PLAIN).astype(np.int64)
    uneven = calendars.sums(changes, np.minimum(lo + 1, hi), hi) > 0
    if uneven.any():
        lo, hi = lo[uneven], hi[uneven]
        means[uneven] = calendars.sums(values * length, lo, hi) / calendars.sums(length, lo, hi)
    return means


def describe(history: xr.Dataset, names: Iterable[str]) -> list[str]:
    """Return a line about each named variable of an output that has been aligned: unit, records, range."""
    own = _clocked(history["time"], history["time"], "time")[1]
    axis = _time_axis(history, own)
    lines = []
    for name in names:
        series = _series(history, name)
        values = np.asarray(series.values, dtype=np.float64)[axis.records]
        values = values[~missing_codes.undeclared(values)[0]]
        numbers = (
            f"{values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
            if len(values)
            else "no number"
        )
        lines.append(
            f"{name} [{series.attrs.get('units', '')}]: {numbers}; {len(axis.middle)} records, "
            f"{_ends(axis, own)}"
        )
    return lines


def foresee(grid: ObservationGrid, names: Mapping[str, str], model: object) -> None:
    """Refuse before any run what `align` would refuse of every one, of a model that tells enough about its
    output.

    A model may tell its ``period``, first and last day, and its ``outputs``, the unit of each variable by
    name.

    Raises
    ------
    BadInput
        For windows outside the period, a variable that is not written, a unit it cannot be converted to.
    """
    told: tuple[object, object] | None = getattr(model, "period", None)
    if told is not None:
        begin, stop = calendars.period(*told, getattr(model, "calendar", "standard"))
        outside = (grid.start < begin) | (grid.end > stop)
        if outside.any():
            raise BadInput(
                f"{outside.sum()} of {len(grid)} windows of calibration and validation lie outside the model's period",
                expected=f"{told[0]} to {told[1]}, from model.start to model.end",
                got=f"{grid.start.min().astype('M8[D]')} to {(grid.end.max() - 1).astype('M8[D]')}",
                hint="another model.start or model.end (and forcing), or shorter periods",
            )
    outputs: Mapping[str, str] = getattr(model, "outputs", {})
    for variable in dict.fromkeys(grid.variable.tolist() if outputs else ()):
        name, unit = names[variable], str(grid.unit[grid.variable == variable][0])
        if name not in outputs:
            near = difflib.get_close_matches(name, list(outputs), n=1)
            raise BadInput(
                f"{variable}: the model writes no variable {name!r}",
                expected=f"among {_listed(outputs)}",
                hint=f"model: {near[0]}" if near else "",
            )
        try:
            units.factor(outputs[name], unit)
        except BadInput:
            raise BadInput(
                f"{variable} is compared in {unit!r}, and the model gives {name} in {outputs[name]!r}",
                expected=f"a unit that fits, as {', '.join(units.fitting(outputs[name]))}",
            ) from None


class _Axis(NamedTuple):
    """The records of a history in order of time, on the clock of the windows' calendar."""

    records: Array  # (N) their index in the history
    middle: Array  # (N) [s]
    length: Array  # (N) [s]
    gaps: Array  # (G, 2) begin and end of what lies between two records [s]
    calendar: str  # the history's own


def _time_axis(history: xr.Dataset, calendar: str) -> _Axis:
    if "time" not in history.variables or history["time"].dims != ("time",):
        raise ModelFailed(
            Status.MISSING_VARIABLE,
            f"the output has no time axis 'time'; it has {_listed(history.variables)}",
        )
    time = history["time"]
    bounds = time.attrs.get("bounds") or time.encoding.get("bounds")
    if bounds and (bounds not in history.variables or history[bounds].shape != (time.size, 2)):
        raise ModelFailed(  # the stamps alone may be a day off, which no later check would see
            Status.MISSING_VARIABLE,
            f"the output has no {bounds!r} (time, 2), which 'time' names as its bounds",
        )
    edges: Array | None
    stamps, own = _clocked(time, time, "time")
    if bounds:
        edges, own = _clocked(history[bounds], time, bounds)
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
    return _Axis(records, calendars.clock(moments[records], calendar), length[records], gaps, own)


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
    for wrong, words in ((reversed_, "end before they begin"), (outside, "do not hold their time")):
        if wrong.any():
            k = int(np.argmax(wrong))
            begin, end = calendars.date(edges[k], own)
            raise ModelFailed(
                Status.TRUNCATED,
                f"the bounds of {np.count_nonzero(wrong)} of {len(stamps)} records {words}, "
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


def _clocked(times: xr.DataArray, time: xr.DataArray, name: str) -> tuple[Array, str]:
    """Return `times` (stamps or bounds) on their calendar's clock [s], and the calendar.

    What bounds don't say of unit and calendar, `time` does.
    """
    values = np.asarray(times.values)
    said = {**time.encoding, **time.attrs, **times.attrs}
    calendar, unit = str(said.get("calendar", "standard")), str(said.get("units", ""))
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


def _check_filled(
    axis: _Axis,
    grid: ObservationGrid,
    records: tuple[Array, Array],
    windows: tuple[Array, Array],
    calendar: str,
) -> None:
    """Raise `ModelFailed` unless the records fill each window once, to less than one record.

    `records` are the first and the one after the last of each window (D), `windows` its start and end [s].
    """
    (lo, hi), (start, end) = records, windows
    length = end - start
    covered, record = calendars.sums(axis.length, lo, hi), axis.length.max(initial=0)
    empty = (hi == lo) | (covered <= length - record)
    for begin, stop in axis.gaps:
        empty |= (start < stop) & (end > begin)
    if empty.any():
        raise ModelFailed(Status.TRUNCATED, _lacking(axis, grid, empty, calendar))
    twice = covered >= length + record
    if twice.any():
        first = grid.start[twice].min()
        raise ModelFailed(
            Status.TRUNCATED,
            f"the time axis holds records twice, first in {first}: joined from overlapping runs?",
        )


def _lacking(axis: _Axis, grid: ObservationGrid, empty: Array, calendar: str) -> str:
    n_windows, n_empty = (len(np.unique(start)) for start in (grid.start, grid.start[empty]))
    message = (
        f"{n_empty} of {n_windows} windows lack records, first {grid.start[empty].min()} to "
        f"{grid.end[empty].min()}. Expected records from {grid.start.min()} to {grid.end.max()}, got "
    )
    if not len(axis.middle):
        return message + "none"
    message += f"{len(axis.middle)} from {_ends(axis, calendar)}"
    if axis.calendar != calendars.canonical(calendar):
        message += f". Its calendar is {axis.calendar}, the windows' {calendar}"
        message += f". Try: model.calendar: {axis.calendar}"
    return message


def _ends(axis: _Axis, calendar: str) -> str:
    first, last = calendars.date(axis.middle[[0, -1]], calendar)
    return f"{first} to {last}, one every {np.median(axis.length) / 3600:g} h"


def _series(history: xr.Dataset, name: str) -> xr.DataArray:
    """The variable `name` with the dimension time alone."""
    if name not in history.variables:
        present = [str(other) for other in history.data_vars if "time" in history[other].dims]
        near = difflib.get_close_matches(name, present, n=1)
        hint = f". Try: {near[0]!r}" if near else ""
        raise ModelFailed(
            Status.MISSING_VARIABLE, f"the output has no variable {name!r}; it has {_listed(present)}{hint}"
        )
    series = history[name]
    others = [dim for dim in series.dims if dim != "time"]
    large = {dim: size for dim, size in series.sizes.items() if dim != "time" and size != 1}
    if large or "time" not in series.dims:
        raise ModelFailed(
            Status.MISSING_VARIABLE,
            f"{name} is no time series of one place. Expected dimensions time and others of size 1, "
            f"got {dict(series.sizes)}",
        )
    return series.squeeze(others)


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(str(name) for name in names) or "nothing"


def _check_finite(
    name: str, lacking: Array, codes: list[float], grid: ObservationGrid, lo: Array, hi: Array
) -> None:
    """Raise `ModelFailed` where a window holds a record that is `lacking` (N) a value."""
    what = "NaN, infinite or a fill value"
    if codes:
        listed = " and ".join(f"{code:.10g}" for code in codes)
        what += f" ({listed}, which no attribute says and which lies far outside all other values)"
    bad = calendars.sums(lacking.astype(np.int64), lo, hi)
    if bad.any():
        raise ModelFailed(
            Status.NON_FINITE,
            f"{name} is {what} in {np.count_nonzero(bad)} of {len(bad)} windows, "
            f"first {grid.start[bad > 0].min()}",
        )


def _in_unit(values: Array, series: xr.DataArray, unit: str) -> Array:
    own = str(series.attrs.get("units", "")).strip()
    if not own:
        raise ModelFailed(
            Status.WRONG_UNIT,
            f"{series.name} has no attribute 'units'. Expected one that converts to {unit!r}",
        )
    try:
        return units.convert(values, own, unit)
    except BadInput as error:
        raise ModelFailed(Status.WRONG_UNIT, f"{series.name}: {error}") from error
