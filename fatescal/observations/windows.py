"""Measured fluxes as the calibration needs them: filtered, averaged over windows, each with its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations import calendars, units
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import (
    ObservedVariable,
    measurements,
    uncertainties,
    with_numbers,
)
from fatescal.observations.outliers import outliers
from fatescal.observations.periods import Period, held_out, named_periods, shares
from fatescal.observations.window_means import Rows, averages
from fatescal.storage.records import ObservationGrid, Observations

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 5  # windows that a message lists


@dataclass(frozen=True)
class Summary:
    """What became of one variable's windows in one period; `dropped` counts windows by reason."""

    variable: str
    period: str
    unit: str
    used: int
    dropped: dict[str, int]
    mean: float
    sd: float
    first: str
    last: str
    refused: int = 0  # measurements, by the quality filter
    uncertain: int = 0  # measurements without an uncertainty, where the error is put together from these
    outliers: str = ""  # windows far outside all others, with their z-scores, where they are kept or dropped


def grid_of(
    variables: Sequence[ObservedVariable],
    window: str,
    calibration: Period,
    validation: Period | None,
    calendar: str,
    fold: tuple[int, int] | None = None,
) -> ObservationGrid:
    """Return every window of every variable: rows by variable (as given), then time; errors not yet known.

    Parameters
    ----------
    window : str
        A frequency, see `calendars.windows`.
    calibration, validation : (first, last)
        Days, both inclusive.
    calendar : str
        The model's CF calendar: 29 February is no window of a noleap model.
    fold : (i, k), optional
        The windows that begin in the i-th of k blocks of calibration years validate; `validation` is kept
        out.

    Raises
    ------
    BadInput
        For an unknown unit, reversed or overlapping periods, or windows that can't be made.
    """
    for variable in variables:
        units.check(variable.unit)
        if variable.measured_in:
            units.convert(0.0, variable.rate, variable.unit)
    parts = [
        (name, *calendars.windows(*period, window, calendar))
        for name, period in named_periods(calibration, None if fold else validation)
    ]
    names = np.concatenate([np.full(len(start), name, dtype="<U11") for name, start, _ in parts])
    start, end = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
    if fold is not None:
        names = np.where(held_out(start, calibration, fold), "validation", names)
    n = len(start)
    middle = calendars.clock(start, calendar) / 2 + calendars.clock(end, calendar) / 2
    length = np.mean(calendars.clock(end, calendar) - calendars.clock(start, calendar))
    rho = np.repeat([v.error.ar1 or 0.0 for v in variables], n)
    position = np.tile((middle - middle[0]) / length, len(variables))
    return ObservationGrid(
        correlation={"rho": rho, "position": position} if rho.any() else {},
        noise=np.zeros(n * len(variables)),
        variable=np.repeat([v.name for v in variables], len(start)),
        unit=np.repeat([v.unit for v in variables], len(start)),
        start=np.tile(start, len(variables)),
        end=np.tile(end, len(variables)),
        period=np.tile(names, len(variables)),
    )


def build(
    table: pd.DataFrame,
    variables: Sequence[ObservedVariable],
    window: str,
    calibration: Period,
    validation: Period | None,
    calendar: str,
    min_valid: float = 0.5,
    fold: tuple[int, int] | None = None,
    on_outliers: str = "refuse",
) -> tuple[Observations, list[Summary]]:
    """Return the observations of a table, and for each variable and period what was used and dropped.

    A window's value is the mean of the valid measurements whose middle it holds, weighted by the time that
    each stands for (`record_lengths.interval_lengths`); of amounts per record, compared as a rate, that is
    their sum over the time they fill. A window of which valid measurements fill less than `min_valid` is
    dropped, for that variable alone.

    Parameters
    ----------
    table : DataFrame
        Columns by name, indexed by the start of each measurement (`tables.read`).
    variables, window, calibration, validation, calendar, fold
        As `grid_of`.
    on_outliers : {"refuse", "drop", "keep"}
        What becomes of windows far outside all others of their variable (`outliers.outliers`).

    Raises
    ------
    BadInput
        As `grid_of`; if windows are shorter than the measurements; if a variable has no window left for
        calibration, or none has any for validation; for outliers that are to be refused.
    """
    variables = [with_numbers(variable, table) for variable in variables]
    grid = grid_of(variables, window, calibration, validation, calendar, fold)
    columns, sds, refused, uncertain = {}, {}, {}, {}
    for variable in variables:
        values, refused[variable.name] = measurements(variable, table)
        sds[variable.name] = uncertainties(variable, table)
        uncertain[variable.name] = np.isfinite(values) & ~np.isfinite(sds[variable.name])
        columns[variable.name] = np.where(uncertain[variable.name], np.nan, values)
    rows = Rows.of(table)
    y, n_valid, share, short, measured = averages(columns, sds, rows, grid, calendar)
    least = {v.name: min_valid if v.min_valid is None else v.min_valid for v in variables}
    required = np.array([least[name] for name in grid.variable.tolist()])
    used = (
        (share > 0) & (share >= required * (1 - 1e-12)) & ~short
    )  # 3 of 30 are a tenth, however it is rounded
    grid = with_errors(grid, y, {v.name: v.error for v in variables}, n_valid, used, measured)
    full = grid.with_values(y)
    far, z = _outliers(full, used, on_outliers)
    middles = rows.middles
    outcome = _outcomes(grid, middles, used, share, short, far & (on_outliers == "drop"))
    used = outcome == "used"
    summaries = []
    for name, (first, last), within in shares(middles, calibration, validation, calendar, fold):
        absent = middles[within & ~calendars.exists(middles, calendar)]
        n_absent = len(np.unique(absent.astype("datetime64[D]")))
        for v in variables:
            named = far & (grid.variable == v.name) & (grid.period == name)
            summaries.append(
                replace(
                    _summary(full, outcome, v, name, n_absent),
                    refused=int(refused[v.name][within].sum()),
                    uncertain=int(uncertain[v.name][within].sum()),
                    outliers=f"{on_outliers}: {_named(full, z, named)}" if named.any() else "",
                )
            )
        if not used[grid.period == name].any():
            raise BadInput(
                f"no variable has measurements in the {name} period {first} to {last}",
                expected=f"days from {_day(middles[0])} to {_day(middles[-1])}, those of the table",
            )
    _require_calibrated(summaries, uncertain)
    return full.select(used), summaries


def _outcomes(
    grid: ObservationGrid, middles: Array, used: Array, share: Array, short: Array, dropped: Array
) -> Array:
    """Return what became of each window (D): 'used', or why not."""
    outside = (grid.end <= middles[0]) | (grid.start > middles[-1])
    names = ["outlier", "used", "outside the table", "no valid measurement", "shorter than its measurements"]
    return np.select([dropped, used, outside, share == 0, short], names, "too few valid measurements")


def _require_calibrated(summaries: Sequence[Summary], uncertain: Mapping[str, Array]) -> None:
    """Raise `BadInput` where a variable has no window left for calibration."""
    empty = [s.variable for s in summaries if s.period == "calibration" and not s.used]
    if empty:
        lost = [f"{name} has {n} without an uncertainty" for name in empty if (n := uncertain[name].sum())]
        raise BadInput(
            f"{', '.join(empty)}: no window of the calibration period has enough valid measurements"
            + "".join(f"; {loss}" for loss in lost),
            hint="another period, a smaller min_valid, or leave the variable out",
        )


def with_errors(
    grid: ObservationGrid,
    y: Array,
    errors: Mapping[str, ErrorModel],
    n_valid: Array | float = 1.0,
    used: Array | bool = True,
    measured: Array | float = 0.0,
) -> ObservationGrid:
    """Return the grid with the noise of values `y` (D), means of `n_valid` (D) measurements each.

    `measured` (D) is the sd of each mean by the uncertainties of its measurements.

    Raises
    ------
    BadInput
        If an error that is `used` (D) isn't positive.
    """
    noise = np.empty(len(grid))
    n_valid, measured = (np.broadcast_to(x, len(grid)) for x in (n_valid, measured))
    for name, error in errors.items():
        rows = grid.variable == name
        noise[rows] = error.noise(np.asarray(y)[rows], n_valid[rows], measured[rows])
        if not np.all(noise[rows & used] > 0):
            raise BadInput(
                f"error sd of {name}", expected="positive in every window", got=noise[rows & used].min(),
                hint="a systematic part: a relative one alone vanishes where the flux does",
            )  # fmt: skip
    return replace(grid, noise=noise)


def synthesise(
    rng: np.random.Generator,
    grid: ObservationGrid,
    predictions: Array,
    errors: Mapping[str, ErrorModel],
    noise: float = 1.0,
) -> Observations:
    """Return observations of a known truth: its `predictions` (D) plus `noise` times one draw of the error
    model.

    A window counts as one measurement; a relative part is of the truth.
    """
    grid = with_errors(grid, predictions, errors)
    return grid.with_values(np.asarray(predictions) + noise * grid.colour(rng.standard_normal(len(grid))))


def climatology(observations: Observations, half_width: int = 7) -> Array:
    """Return the day-of-year mean of the calibration period as a prediction (D) for every window.

    The baseline any model should beat: the mean of all calibration values of the variable, at the same time
    of day, whose day of the (365-day) year is at most `half_width` days from the window's; NaN where there is
    none. The calibration period is predicted by the same climatology, values of the day itself included.
    """
    middles = observations.start + (observations.end - observations.start) // 2
    day = calendars.day_of_year(middles)
    # of the start: a window's length, and so its middle's time of day, changes with months and over a day the
    # calendar lacks
    second = (observations.start - observations.start.astype("datetime64[D]")).astype(np.int64)
    known = observations.period == "calibration"
    predictions = np.full(len(observations), np.nan)
    for variable in dict.fromkeys(observations.variable):
        for moment in np.unique(second[observations.variable == variable]):
            rows = (observations.variable == variable) & (second == moment)
            total = np.bincount(day[rows & known], weights=observations.y[rows & known], minlength=365)
            count = np.bincount(day[rows & known], minlength=365)
            near_total, near_count = (
                sum(np.roll(x, shift) for shift in range(-half_width, half_width + 1)) for x in (total, count)
            )
            mean = np.where(near_count > 0, near_total / np.maximum(near_count, 1), np.nan)
            predictions[rows] = mean[day[rows]]
    return predictions


def describe(summaries: Sequence[Summary]) -> str:
    """Return the summaries as lines of text, one per variable and period."""
    lines = []
    for s in summaries:
        dropped = "; ".join(f"{count} dropped: {reason}" for reason, count in s.dropped.items())
        line = f"{s.variable}, {s.period}: {s.used} windows"
        if s.used:
            line += f" {s.first} to {s.last}, mean {s.mean:.4g}, error sd {s.sd:.4g} {s.unit}"
        line += f"; {s.refused} measurements refused by their quality" if s.refused else ""
        line += f"; {s.uncertain} measurements left out, without an uncertainty" if s.uncertain else ""
        line += f"; OUTLIERS {s.outliers}" if s.outliers else ""
        lines.append(f"{line}; {dropped}" if dropped else line)
    return "\n".join(lines)


def _outliers(full: Observations, used: Array, on_outliers: str) -> tuple[Array, Array]:
    """Which windows (D) in use are outliers, and z (D); they are refused unless something else is wanted."""
    far, z = np.zeros(len(full), dtype=bool), np.zeros(len(full))
    if used.any():
        far[used], z[used] = outliers(full.select(used))
    if far.any() and on_outliers == "refuse":
        raise BadInput(
            f"{np.count_nonzero(far)} of {np.count_nonzero(used)} windows lie far outside all others of "
            f"their variable: {_named(full, z, far)}",
            hint="correct the file; or observations.outliers: drop, to leave them out, or keep, to use them",
        )
    return far, z


def _named(full: Observations, z: Array, rows: Array) -> str:
    """The first windows of some, with their values and z-scores."""
    texts = [
        f"{full.variable[k]} {_moment(full.start[k])} = {full.y[k]:.4g} {full.unit[k]} "
        f"(robust z-score {z[k]:.3g})"
        for k in np.flatnonzero(rows)[:_NAMED]
    ]
    return ", ".join(texts) + (f" and {rows.sum() - _NAMED} more" if rows.sum() > _NAMED else "")


def _summary(
    full: Observations, outcome: Array, variable: ObservedVariable, period: str, n_absent: int
) -> Summary:
    rows = (full.period == period) & (full.variable == variable.name)
    used = rows & (outcome == "used")
    reasons, counts = np.unique(outcome[rows & ~used], return_counts=True)
    dropped = {str(reason): int(count) for reason, count in zip(reasons, counts, strict=True)}
    if n_absent:
        dropped["29 February, no day of the model's calendar"] = n_absent
    any_used = bool(used.any())
    return Summary(
        variable=variable.name,
        period=period,
        unit=variable.unit,
        used=int(used.sum()),
        dropped=dropped,
        mean=float(full.y[used].mean()) if any_used else np.nan,
        sd=float(np.sqrt(np.mean(full.sd[used] ** 2))) if any_used else np.nan,
        first=_day(full.start[used][0]) if any_used else "",
        last=_day(full.end[used][-1] - 1) if any_used else "",
    )


def _moment(moment: np.datetime64) -> str:
    """A day, or a day and time of day."""
    return str(moment).replace("T00:00:00", "").replace("T", " ")


def _day(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[D]"))
