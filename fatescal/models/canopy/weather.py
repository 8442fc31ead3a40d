"""Three-hourly forcing from CLM's files: one netCDF file, or a folder of monthly DATM files.

A reader returns `Weather`; whatever can fill one drives the model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array

STEPS_PER_DAY = 8
STEP = 86400 // STEPS_PER_DAY  # s
MONTH_STARTS = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])  # days before each noleap month

# name in CLM's files: unit (spellings), lowest and highest value that can be weather
VARIABLES: dict[str, tuple[tuple[str, ...], float, float]] = {
    "PRECTmms": (("mm H2O / sec", "mm/s", "kg m-2 s-1"), 0.0, 0.05),
    "FSDS": (("W/m**2", "W/m2", "W m-2"), 0.0, 1400.0),
    "TBOT": (("K",), 200.0, 330.0),
    "PSRF": (("Pa",), 5e4, 1.1e5),
    "QBOT": (("kg/kg", "kg kg-1"), 0.0, 0.05),
    "WIND": (("m/s", "m s-1"), 0.0, 60.0),
    "FLDS": (("W/m**2", "W/m2", "W m-2"), 30.0, 700.0),
}
STREAMS = {"Prec": ("PRECTmms",), "Solr": ("FSDS",), "TPQWL": ("TBOT", "PSRF", "QBOT", "WIND", "FLDS")}


def noleap_day(day: date) -> int:
    """Return days since noleap 0000-01-01.

    >>> noleap_day(date(2004, 3, 1)) - noleap_day(date(2004, 2, 28))
    1
    """
    if (day.month, day.day) == (2, 29):
        raise BadInput(f"{day} does not exist in the noleap calendar", hint="28 February or 1 March")
    return 365 * day.year + int(MONTH_STARTS[day.month - 1]) + day.day - 1


def noleap_date(day: int) -> date:
    """Return the date of a noleap day number.

    >>> noleap_date(noleap_day(date(2010, 12, 31)))
    datetime.date(2010, 12, 31)
    """
    year, rest = divmod(day, 365)
    month = int(np.searchsorted(MONTH_STARTS, rest, side="right"))
    return date(year, month, rest - int(MONTH_STARTS[month - 1]) + 1)


@dataclass(frozen=True)
class Weather:
    """Whole days of three-hourly weather, noleap, UTC; `values` are means over each step.

    Attributes
    ----------
    first_day : int
        Noleap number of the first day (`noleap_day`).
    values : mapping of str to array (n)
        One series per name in `VARIABLES`, in CLM's units.
    identity : mapping
        Tells this forcing from any other, for a run's description.
    notes : tuple of str
        What was mended, for the log.
    """

    first_day: int
    values: Mapping[str, Array]
    identity: Mapping[str, object]
    notes: tuple[str, ...] = field(default=())

    @property
    def n_days(self) -> int:
        """Length in days."""
        return len(self.values["TBOT"]) // STEPS_PER_DAY

    def period(self, start: date, end: date) -> Weather:
        """Return the days `start` .. `end` (inclusive); `BadInput` where they are not covered."""
        first, last = noleap_day(start) - self.first_day, noleap_day(end) - self.first_day
        if first < 0 or last >= self.n_days:
            covered = f"{noleap_date(self.first_day)} .. {noleap_date(self.first_day + self.n_days - 1)}"
            raise BadInput(f"the forcing covers {covered}", expected=f"{start} .. {end}")
        steps = slice(first * STEPS_PER_DAY, (last + 1) * STEPS_PER_DAY)
        return replace(
            self, first_day=self.first_day + first, values={k: v[steps] for k, v in self.values.items()}
        )


def read(path: Path) -> Weather:
    """Read a netCDF file or a folder of CLM's monthly files.

    Raises
    ------
    BadInput
        For a missing file or variable, another unit, time step or calendar, or values no weather has.
    """
    if path.is_dir():
        first_day, values, files = _read_datm(path)
        return mend(first_day, values, {"forcing": path.name, "sha256": _digest(files)})
    if not path.is_file():
        raise BadInput(
            f"no forcing at {path}", expected="a netCDF file, a folder of DATM files, or `synthetic`"
        )
    first_day, values = _read_file(path, tuple(VARIABLES))
    return mend(first_day, values, {"forcing": path.name, "sha256": _digest([path])})


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def mend(
    first_day: int, values: dict[str, Array], identity: Mapping[str, object], notes: Iterable[str] = ()
) -> Weather:
    """Check the ranges; interpolate missing humidity (zero, as at one step of GSWP3), saying so."""
    notes = list(notes)
    dry = values["QBOT"] <= 0.0
    if 0 < dry.sum() <= 8:
        steps = np.arange(len(dry))
        values["QBOT"] = np.where(dry, np.interp(steps, steps[~dry], values["QBOT"][~dry]), values["QBOT"])
        notes.append(f"QBOT is 0 at {dry.sum()} step(s), interpolated: {np.flatnonzero(dry).tolist()}")
    elif dry.any():
        raise BadInput(f"QBOT is not above 0 at {dry.sum()} steps of the forcing", expected="at most 8")
    for name, (units, low, high) in VARIABLES.items():
        worst = values[name][~((values[name] >= low) & (values[name] <= high))]
        if worst.size:
            raise BadInput(
                f"{name} of the forcing is out of range at {worst.size} steps",
                expected=f"{low} .. {high} {units[0]}",
                got=worst[0],
            )
    return Weather(first_day, values, identity, tuple(notes))


def _read_datm(folder: Path) -> tuple[int, dict[str, Array], list[Path]]:
    """Return first day, values and files of a folder of ``*.<stream>.*YYYY-MM.nc`` files."""
    values: dict[str, Array] = {}
    files: list[Path] = []
    spans = set()
    for stream, names in STREAMS.items():
        monthly = sorted(
            (match.group(1), path)
            for path in folder.glob("*.nc")
            if f".{stream}." in path.name and (match := re.search(r"(\d{4}-\d\d)\.nc$", path.name))
        )
        if not monthly:
            raise BadInput(f"no {stream} files in {folder}", expected=f"*.{stream}.*YYYY-MM.nc")
        pieces = [_read_file(path, names) for _, path in monthly]
        for (day, piece), (next_day, _), (_, path) in zip(pieces, pieces[1:], monthly[1:], strict=False):
            if day + len(piece[names[0]]) // STEPS_PER_DAY != next_day:
                raise BadInput(f"a gap before {path.name}", expected="one file a month, none missing")
        values |= {name: np.concatenate([piece[name] for _, piece in pieces]) for name in names}
        files += [path for _, path in monthly]
        spans.add((pieces[0][0], len(values[names[0]])))
    if len(spans) > 1:
        raise BadInput(f"the streams in {folder} cover different months")
    return spans.pop()[0], values, files


def _read_file(path: Path, names: tuple[str, ...]) -> tuple[int, dict[str, Array]]:
    """Return first day and series of one file; stamps may be mid-interval or at its start (Solr)."""
    import netCDF4

    try:
        with netCDF4.Dataset(path) as data:
            day, steps = _first_step(path, data)
            return day, {name: _series(path, data, name, steps) for name in names}
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def _first_step(path: Path, data) -> tuple[int, int]:
    """Return noleap number of the first day and number of steps, having checked every stamp."""
    if "time" not in data.variables:
        raise BadInput(f"{path.name} has no time axis")
    time = data["time"]
    origin = re.fullmatch(r"days since (\d+)-(\d+)-(\d+)( 0+:00(:00)?)?", time.units.strip())
    if getattr(time, "calendar", "") not in ("noleap", "365_day") or not origin:
        raise BadInput(
            f"time of {path.name}",
            expected="days since YYYY-MM-DD, noleap",
            got=f"{time.units}, {getattr(time, 'calendar', 'no calendar')}",
        )
    # single-precision stamps late in a decade are off by up to 2 minutes; floor needs the eighth of a day
    steps = np.floor(np.asarray(time[:], float) * STEPS_PER_DAY + 1e-3).astype(int)
    if steps[0] % STEPS_PER_DAY or len(steps) % STEPS_PER_DAY or (np.diff(steps) != 1).any():
        raise BadInput(f"time of {path.name}", expected="whole days of 3-hourly steps without gaps")
    year, month, day = (int(x) for x in origin.groups()[:3])
    return noleap_day(date(year, month, day)) + int(steps[0]) // STEPS_PER_DAY, len(steps)


def _series(path: Path, data, name: str, n_steps: int) -> Array:
    if name not in data.variables:
        raise BadInput(f"{path.name} has no {name}", expected=", ".join(VARIABLES))
    variable = data[name]
    unit = str(getattr(variable, "units", "none")).strip()
    if unit not in VARIABLES[name][0]:
        raise BadInput(f"unit of {name} in {path.name}", expected=VARIABLES[name][0][0], got=unit)
    if variable.size != n_steps:
        raise BadInput(f"{name} in {path.name}", expected=f"one point, {n_steps} steps", got=variable.shape)
    return np.ma.filled(variable[:].astype(float), np.nan).reshape(-1)
