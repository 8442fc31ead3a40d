"""Model output on the observations' windows, in the observations' units: what can be compared.

Everything a model can get wrong about names, units, calendars and lengths is met here, and said in words.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fatescal import calendars, units
from fatescal.errors import BadInput, ModelFailed, Status
from fatescal.records import Array, ObservationGrid

if TYPE_CHECKING:
    import xarray as xr

FILL = 1e30  # nothing physical is larger; netCDF's and CLM's fill values (9.97e36, 1e36) are


def align(history: xr.Dataset, grid: ObservationGrid, names: Mapping[str, str], calendar: str) -> Array:
    """Return the predictions (D) of one model run, in the unit of each observation.

    A record belongs to the window that holds the middle of its interval, given by the bounds that the time
    coordinate names; records of zero length (CLM's first) are left out. Without bounds the stamp decides, so
    stamps at the end of an interval need bounds. A window's prediction is the mean of its records.

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
        MISSING_VARIABLE, WRONG_UNIT, TRUNCATED (the time axis doesn't fill every window once) or NON_FINITE.
    """
    axis = _time_axis(history, calendar)
    start, end = (calendars.clock(edges, calendar) for edges in (grid.start, grid.end))
    lo, hi = calendars.spans(axis.middle, start, end)
    _check_filled(axis, grid, lo, hi, end - start, calendar)
    predictions = np.empty(len(grid))
    for variable in dict.fromkeys(grid.variable.tolist()):
        rows = np.flatnonzero(grid.variable == variable)
        series = _series(history, names[variable])
        values = np.asarray(series.values, dtype=np.float64)[axis.records]
        _check_finite(names[variable], values, grid.select(rows), lo[rows], hi[rows])
        values = np.where(_usable(values), values, 0.0)  # what isn't lies in no window
        means = calendars.sums(values, lo[rows], hi[rows]) / (hi - lo)[rows]
        predictions[rows] = _in_unit(means, series, str(grid.unit[rows[0]]))
    return predictions


def foresee(grid: ObservationGrid, names: Mapping[str, str], model: object) -> None:
    """Refuse before any run what `align` would refuse of every one, of a model that tells enough about its output.

    A model may tell its ``period``, first and last day, and its ``outputs``, the unit of each variable by name.

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
    moments, own = _moments(history[bounds] if bounds else time, time)
    seconds = calendars.clock(moments, own)
    if bounds:
        length = seconds[:, 1] - seconds[:, 0]
        middle = seconds[:, 0] + length // 2
    else:
        step = int(np.median(np.diff(np.sort(seconds)))) if len(seconds) > 1 else 0
        length, middle = np.full(len(seconds), step), seconds
    middles = calendars.date(middle, own)
    kept = calendars.exists(middles, calendar) & ((length > 0) | (not bounds))
    records = np.flatnonzero(kept)
    records = records[np.argsort(middles[kept], kind="stable")]
    return _Axis(records, calendars.clock(middles[records], calendar), length[records], own)


def _moments(times: xr.DataArray, time: xr.DataArray) -> tuple[Array, str]:
    """Moments of `times` (stamps or bounds), and their calendar; what bounds don't say, `time` does."""
    values = np.asarray(times.values)
    said = {**time.encoding, **time.attrs, **times.attrs}
    calendar, unit = str(said.get("calendar", "standard")), str(said.get("units", ""))
    try:
        if values.dtype.kind == "O" and values.size:
            return calendars.components(values), calendars.canonical(values.flat[0].calendar)
        if values.dtype.kind == "M":
            return calendars.components(values), "standard"
        return _decoded(values, unit, calendars.canonical(calendar)), calendars.canonical(calendar)
    except BadInput as error:
        raise ModelFailed(Status.WRONG_UNIT, f"the time axis: {error}") from error
    except ValueError as error:
        message = f"the time axis has unit {unit!r}: {error}. Expected 'days since 2004-01-01' or the like"
        raise ModelFailed(Status.WRONG_UNIT, message) from error


def _decoded(values: Array, unit: str, calendar: str) -> Array:
    """Moments of numbers in a CF time unit."""
    import cftime

    if not np.isfinite(values).all():
        raise ValueError("some times are NaN")
    zero, one = calendars.clock(calendars.components(cftime.num2date([0, 1], unit, calendar)), calendar)
    return calendars.date(zero + np.rint(values * float(one - zero)).astype(np.int64), calendar)


def _check_filled(
    axis: _Axis, grid: ObservationGrid, lo: Array, hi: Array, length: Array, calendar: str
) -> None:
    """Raise `ModelFailed` unless the records fill each window once, to less than one record."""
    covered, record = calendars.sums(axis.length, lo, hi), axis.length.max(initial=0)
    empty = (hi == lo) | (covered <= length - record)
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


def _usable(values: Array) -> Array:
    return np.isfinite(values) & (np.abs(values) < FILL)


def _check_finite(name: str, values: Array, grid: ObservationGrid, lo: Array, hi: Array) -> None:
    bad = calendars.sums((~_usable(values)).astype(np.int64), lo, hi)
    if bad.any():
        raise ModelFailed(
            Status.NON_FINITE,
            f"{name} is NaN, infinite or a fill value in {np.count_nonzero(bad)} of {len(bad)} windows, "
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
