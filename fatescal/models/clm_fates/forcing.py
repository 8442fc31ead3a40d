"""Forcing files as the data atmosphere reads them: dimensions, place, years, stamps.

Sources: CDEPS, `dshr_strdata_mod` (a stream without a mesh is read with start (1, 1, n) and count (1, 1, 1))
and `dshr_tinterp_mod` (what `tintalgo` makes of a stamp; "for cosine of solar zenith angle forcing the
time-stamps MUST be for the beginning of the interval").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.models.clm_fates.streams import Stream

if TYPE_CHECKING:
    import netCDF4

SAME_CELL = 0.5  # degrees between the case and the cell of its forcing
LONGEST_SHIFT = (
    0.5  # h, a time step of CLM: what a stream may be misread by where its values may be instantaneous
)
SUN_SHIFT = 1.0  # h from solar noon to the middle of the radiation; clouds alone move it by minutes
EPOCH = "days since 2000-01-01"
Stamp = Literal["start", "middle", "end", ""]
POSITION: dict[Stamp, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}  # of a stamp in its interval
READ_AS: dict[str, Stamp] = {  # where in its interval a `tintalgo` takes a stamp to be
    "coszen": "start", "lower": "start", "upper": "end", "nearest": "middle", "linear": "middle",
}  # fmt: skip


@dataclass(frozen=True)
class Records:
    """The times of the records of one file.

    Attributes
    ----------
    days : array (N)
        Stamps as the stream reads them, with its offset [d since 1 January 2000, in the file's calendar].
    years : array (N)
        Year of each record, without the offset.
    position : array (N) or None
        Place of each stamp in its interval, 0 at the start and 1 at the end, by the file's own bounds.
    begins : Stamp
        ``start`` where the first stamp is the beginning of a day (daily: of a month), ``end`` where it lies
        one step after it.
    """

    days: Array
    years: Array
    position: Array | None
    begins: Stamp
    calendar: str

    @property
    def step(self) -> float:
        """The usual time between two records [d]; 0 of a single record."""
        return float(np.median(np.diff(self.days))) if len(self.days) > 1 else 0.0


def opened(path: Path, what: str) -> netCDF4.Dataset:
    """Return an open netCDF file; `BadInput` where it is none."""
    import netCDF4

    try:
        return netCDF4.Dataset(path)
    except OSError as error:
        raise BadInput(f"{what}: {path} cannot be opened: {error.strerror or error}") from None


def require_site(what: str, path: Path, data: netCDF4.Dataset, site: Sequence[float], within: float) -> None:
    """Raise `BadInput` where a file's point lies elsewhere than `place` [degrees north, east]."""
    if not {"LATIXY", "LONGXY"} <= set(data.variables):
        return
    there = float(np.squeeze(data["LATIXY"][:])), float(np.squeeze(data["LONGXY"][:]))
    apart = abs(there[0] - site[0]), abs((there[1] - site[1] + 180) % 360 - 180)
    if max(apart) > within:
        raise BadInput(
            f"{what} {path} is of another place",
            expected=f"{site[0]:g} N {site[1]:g} E, as PTS_LAT and PTS_LON of the case",
            got=f"{there[0]:g} N {there[1]:g} E",
        )


def require_dimensions(stream: str, path: Path, data: netCDF4.Dataset, names: Iterable[str]) -> None:
    """Raise `BadInput` for a variable that a stream without a mesh cannot read."""
    for name in names:
        if name not in data.variables:
            raise BadInput(f"stream {stream}: {path} has no variable {name}", got=", ".join(data.variables))
        variable = data[name]
        if variable.ndim != 3 or variable.shape[1:] != (1, 1):
            sizes = ", ".join(f"{d}={n}" for d, n in zip(variable.dimensions, variable.shape, strict=True))
            raise BadInput(
                f"stream {stream}: {name} in {path} cannot be read by the data atmosphere, which aborts at "
                "its start (exit code 134)",
                expected=f"{name}(time, lat, lon) with lat = lon = 1, as a stream without a mesh is read",
                got=f"{name}({sizes})",
                hint="the native monthly files of the data atmosphere; or add both dimensions, with "
                "radiation stamped at the start of its interval",
            )


def describe(stream: Stream, site: Sequence[float], first: date, start: date, end: date) -> str:
    """Return a line about a stream of weather, whose files hold the years of the output in a way it can read.

    Parameters
    ----------
    place : (latitude, longitude)
        The point [degrees north, east].
    first : date
        First day of the spin-up; `start` without one.
    start, end : date
        First and last day of the output.

    Raises
    ------
    BadInput
        For whatever ends the model, or is read as something else without a message.
    """
    read = [_read(stream, file, site) for file in stream.files]
    _require_years(stream, {int(y) for records, _ in read for y in np.unique(records.years)}, start, end)
    _require_steady(stream, [records for records, _ in read])
    stamp = _stamp(stream, [records for records, _ in read])
    _require_stamp(stream, stamp, max(records.step for records, _ in read))
    _require_sun(stream, read, site)
    span = f"{stream.year_first} to {stream.year_last}, {len(stream.files)} files"
    line = f"forcing       {stream.name}: {span}, stamped at the {stamp or 'unknown part'} of the interval"
    if first < start:
        line += f"; the spin-up reads {spans(_years_of_spin_up(stream, first, start))}"
    return line


def _years_of_spin_up(stream: Stream, first: date, start: date) -> list[int]:
    """Return the years of forcing that the days before `start` read."""
    last = start.year if (start.month, start.day) > (1, 1) else start.year - 1
    return [stream.year_read(year) for year in range(first.year, last + 1)]


def _read(stream: Stream, path: Path, site: Sequence[float]) -> tuple[Records, Array | None]:
    """Return the records of a file, and its solar radiation where it holds that."""
    with opened(path, f"stream {stream.name}") as data:
        if not stream.has_mesh:
            require_dimensions(stream.name, path, data, [name for name, _ in stream.fields])
            require_site("the forcing", path, data, site, SAME_CELL)
        solar = next((name for name, field in stream.fields if field == "Faxa_swdn"), None)
        values = None
        if solar is not None and not stream.has_mesh:
            values = np.ma.filled(data[solar][:].astype(float), np.nan).reshape(-1)
            if not np.isfinite(values).all():
                raise BadInput(f"stream {stream.name}: {solar} in {path} has missing values")
        return _records(data, path, stream.offset / 86400), values


def _records(data: netCDF4.Dataset, path: Path, offset: float) -> Records:
    import cftime

    try:
        time = data["time"]
        calendar = getattr(time, "calendar", "noleap")
        dates = cftime.num2date(time[:], time.units, calendar, only_use_cftime_datetimes=True)
        own = np.asarray(cftime.date2num(dates, EPOCH, calendar), float)
        years = np.array([day.year for day in dates])
    except (IndexError, AttributeError, ValueError, TypeError) as error:
        raise BadInput(f"{path} has no readable time axis: {error}") from None
    position, bounds = None, getattr(time, "bounds", "")
    if bounds in data.variables and data[bounds].shape == (len(own), 2):
        low, high = np.asarray(data[bounds][:], float).T
        if (high > low).all():
            scale = (own[-1] - own[0]) / float(time[-1] - time[0]) if len(own) > 1 else 1.0  # [d per unit]
            position = (np.asarray(time[:], float) + offset / scale - low) / (high - low)
    days = own + offset
    step = float(np.median(np.diff(days))) if len(days) > 1 else 0.0
    midnight = dates[0].replace(hour=0, minute=0, second=0, microsecond=0)
    if step > 0.9:  # daily records all stand at midnight: a file of those begins with a month
        midnight = midnight.replace(day=1)
    after = (days[0] - cftime.date2num(midnight, EPOCH, calendar)) / step if step else np.nan
    begins: Stamp = "start" if abs(after) < 0.01 else "end" if abs(after - 1) < 0.01 else ""
    return Records(days, years, position, begins, calendar)


def _require_years(stream: Stream, held: set[int], start: date, end: date) -> None:
    lacking = [year for year in range(stream.year_first, stream.year_last + 1) if year not in held]
    if lacking:
        raise BadInput(
            f"stream {stream.name} has no file of {spans(lacking)}",
            expected=f"{stream.year_first} to {stream.year_last}, its year_first to year_last",
            hint="DATM_YR_START and DATM_YR_END of the case",
        )
    other = [year for year in range(start.year, end.year + 1) if stream.year_read(year) != year]
    if other:
        raise BadInput(
            f"stream {stream.name} has no weather of {spans(other)}: the model would run, with that of "
            f"{stream.year_read(other[0])} in {other[0]}",
            expected=f"model.start and model.end within {stream.year_first} to {stream.year_last}",
            hint="DATM_YR_START, DATM_YR_END and DATM_YR_ALIGN of the case",
        )


def _require_steady(stream: Stream, read: Sequence[Records]) -> None:
    """Raise `BadInput` for a gap between records: the model ends there, or interpolates across it."""
    import cftime

    if len({records.calendar for records in read}) > 1:
        raise BadInput(
            f"stream {stream.name}: its files have several calendars", got=[r.calendar for r in read]
        )
    days = np.concatenate([records.days for records in read])
    steps = np.diff(days)
    step = float(np.median(steps)) if len(steps) else 0.0
    wrong = np.flatnonzero((steps <= 0) | (steps > 1.5 * step))
    if len(wrong):
        before, after = cftime.num2date(days[wrong[0] : wrong[0] + 2], EPOCH, read[0].calendar)
        raise BadInput(
            f"stream {stream.name}: its records do not follow upon each other: {before:%Y-%m-%d %H:%M} is "
            f"followed by {after:%Y-%m-%d %H:%M}",
            expected=f"a record every {24 * step:g} h, the files in order of time",
        )


def _stamp(stream: Stream, read: Sequence[Records]) -> Stamp:
    """Return where in its interval a record is stamped: by bounds, else by the clock; '' where neither
    tells.
    """
    known = [records.position for records in read]
    if all(position is not None for position in known):
        positions = np.concatenate([p for p in known if p is not None])
        return next((s for s, p in POSITION.items() if (abs(positions - p) < 0.01).all()), "")
    step = max(records.step for records in read)
    if not 0 < step <= 1:
        return ""
    days = np.concatenate([records.days for records in read])
    part = ((days % 1) / step) % 1
    if (abs(part - 0.5) < 0.02).all():
        return "middle"
    if (np.minimum(part, 1 - part) < 0.02).all():
        begins = {records.begins for records in read}
        return begins.pop() if len(begins) == 1 else ""
    return ""


def _require_stamp(stream: Stream, stamp: Stamp, step: float) -> None:
    """Raise `BadInput` for stamps that the stream's `tintalgo` takes to be elsewhere in the interval."""
    meant = READ_AS.get(stream.interpolation, "")
    if not stamp or not meant or stamp == meant:
        if not stamp and stream.interpolation == "coszen":
            raise BadInput(
                f"stream {stream.name}: where in its interval a record is stamped is not known",
                expected="stamps at the start, as tintalgo coszen reads them",
                hint="time bounds in the files, or files that begin with a day",
            )
        return
    shift = 24 * step * (POSITION[meant] - POSITION[stamp])
    if stream.interpolation != "coszen" and (abs(shift) <= LONGEST_SHIFT or stream.interpolation == "linear"):
        return  # may be values of an instant, which `linear` reads right wherever they are stamped
    raise BadInput(
        f"stream {stream.name} would be read {abs(shift):g} h too {'late' if shift < 0 else 'early'}: its "
        f"records are stamped at the {stamp} of their intervals",
        expected=f"stamps at the {meant}, as tintalgo {stream.interpolation} reads them",
        hint=f"files stamped so, or {stream.name}:offset = {3600 * shift + stream.offset:.0f} in "
        "user_nl_datm_streams",
    )


def _require_sun(stream: Stream, read: Sequence[tuple[Records, Array | None]], site: Sequence[float]) -> None:
    """Raise `BadInput` where the radiation, as it is read, is not centred on noon at the place."""
    if any(values is None for _, values in read) or not read:
        return
    step = max(records.step for records, _ in read)
    if not 0 < step <= 0.25:
        return
    late = {"start": 0.5, "end": -0.5}.get(READ_AS.get(stream.interpolation, ""), 0.0)
    days = np.concatenate([records.days for records, _ in read]) + late * step
    energy = np.concatenate([values for _, values in read if values is not None])
    angle = 2 * np.pi * ((days % 1) + site[1] / 360)
    mean = np.sum(energy * np.exp(1j * angle))
    noon = (np.angle(mean) / (2 * np.pi) * 24) % 24
    if abs(noon - 12) > SUN_SHIFT:
        raise BadInput(
            f"stream {stream.name}: its solar radiation, as it is read, is centred on {noon:.1f} h of solar "
            f"time at {site[1]:g} E",
            expected="12 h: stamps in UTC",
            hint="local time in the files? Another longitude?",
        )


def spans(years: Sequence[int]) -> str:
    """Return years as a text.

    >>> spans([2004, 2005, 2006, 2009])
    '2004-2006, 2009'
    """
    runs: list[list[int]] = []
    for year in years:
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)
