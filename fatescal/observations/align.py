"""Model output on the observations' windows, in the observations' units: what can be compared.

Everything a model can get wrong about names, units, calendars and lengths is checked here, with a message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.types import Array
from fatescal.observations import calendars, missing_codes, units
from fatescal.observations.time_axis import PLAIN, TimeAxis, clocked, ends, listed, time_axis
from fatescal.storage.records import ObservationGrid

if TYPE_CHECKING:
    import xarray as xr


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
    axis = time_axis(history, calendar)
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
    own = clocked(history["time"], history["time"], "time")[1]
    axis = time_axis(history, own)
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
            f"{ends(axis, own)}"
        )
    return lines


def require_comparable(grid: ObservationGrid, names: Mapping[str, str], model: object) -> None:
    """Refuse before any run what `align` would refuse of every one, of a model that tells enough about its
    output.

    A model may tell its ``period``, first and last day, and its ``outputs``, the unit of each variable by
    name.

    Raises
    ------
    BadInput
        For windows outside the period, a variable that is not written, a unit it cannot be converted to.
    """
    period: tuple[object, object] | None = getattr(model, "period", None)
    if period is not None:
        begin, stop = calendars.period(*period, getattr(model, "calendar", "standard"))
        outside = (grid.start < begin) | (grid.end > stop)
        if outside.any():
            raise BadInput(
                f"{outside.sum()} of {len(grid)} windows of calibration and validation lie outside the "
                "model's period",
                expected=f"{period[0]} to {period[1]}, from model.start to model.end",
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
                expected=f"among {listed(outputs)}",
                hint=f"model: {near[0]}" if near else "",
            )
        try:
            units.factor(outputs[name], unit)
        except BadInput:
            raise BadInput(
                f"{variable} is compared in {unit!r}, and the model gives {name} in {outputs[name]!r}",
                expected=f"a unit that fits, as {', '.join(units.fitting(outputs[name]))}",
            ) from None


def _check_filled(
    axis: TimeAxis,
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


def _lacking(axis: TimeAxis, grid: ObservationGrid, empty: Array, calendar: str) -> str:
    n_windows, n_empty = (len(np.unique(start)) for start in (grid.start, grid.start[empty]))
    message = (
        f"{n_empty} of {n_windows} windows lack records, first {grid.start[empty].min()} to "
        f"{grid.end[empty].min()}. Expected records from {grid.start.min()} to {grid.end.max()}, got "
    )
    if not len(axis.middle):
        return message + "none"
    message += f"{len(axis.middle)} from {ends(axis, calendar)}"
    if axis.calendar != calendars.canonical(calendar):
        message += f". Its calendar is {axis.calendar}, the windows' {calendar}"
        message += f". Try: model.calendar: {axis.calendar}"
    return message


def _series(history: xr.Dataset, name: str) -> xr.DataArray:
    """The variable `name` with the dimension time alone."""
    if name not in history.variables:
        present = [str(other) for other in history.data_vars if "time" in history[other].dims]
        near = difflib.get_close_matches(name, present, n=1)
        hint = f". Try: {near[0]!r}" if near else ""
        raise ModelFailed(
            Status.MISSING_VARIABLE, f"the output has no variable {name!r}; it has {listed(present)}{hint}"
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
