"""Three-hourly weather from the half-hourly or hourly meteorology of a FLUXNET2015, ONEFlux or ICOS file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.thermo import ZERO
from fatescal.models.canopy.weather import STEP, Weather, mend, noleap_day
from fatescal.observations import readers
from fatescal.observations.calendars import exists

# degC, W m-2, W m-2, hPa, kPa, mm per row, m s-1 (Pastorello et al. 2020, doi:10.1038/s41597-020-0534-3)
COLUMNS = ("TA_F", "SW_IN_F", "LW_IN_F", "VPD_F", "PA_F", "P_F", "WS_F")


def read_fluxnet(path: Path, site: Stand) -> Weather:
    """Read the columns `COLUMNS`, averaged to the model's steps; 29 February is left out.

    Such files keep the tower's standard time; the days that come out are UTC days of the same dates. What the
    shift lacks at one end (two hours at Hyytiala) is taken from 24 hours away.

    Raises
    ------
    BadInput
        For missing columns, rows or values, a step that does not fit into three hours, or values no weather
        has.
    """
    table, _ = readers.read(path, COLUMNS)
    times = table.index.to_numpy().astype("datetime64[s]").astype(int)
    seconds = _row_length(times, path)
    clock = round(site.longitude / 15) if site.utc_offset is None else site.utc_offset
    notes = [f"times of {path.name} taken as UTC{clock:+g}"]
    times, rows = _whole_days(times, table.to_numpy(float), seconds, path)
    moments = times.astype("datetime64[s]")
    kept = exists(moments, "noleap")
    shift = round(clock * 3600 / seconds)
    series = {
        name: _to_utc(values, shift, 86400 // seconds)[kept].reshape(-1, STEP // seconds).mean(axis=1)
        for name, values in _in_clm_units(rows, seconds).items()
    }
    first = noleap_day(moments[kept][0].item().date())
    identity = {"forcing": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}
    return mend(first, series, identity | {"utc_offset": clock}, notes)


def _row_length(times: Array, path: Path) -> int:
    """Return the seconds between rows, the most frequent difference of their times [s]."""
    lengths, counts = np.unique(np.diff(times), return_counts=True)
    seconds = int(lengths[counts.argmax()]) if len(lengths) else 0
    if not seconds or STEP % seconds:
        raise BadInput(f"step of {path.name}", expected="half-hourly or hourly rows", got=f"{seconds} s")
    return seconds


def _whole_days(times: Array, rows: Array, seconds: int, path: Path) -> tuple[Array, Array]:
    """Return times [s] (n) and rows (n, columns) of all whole days; `BadInput` where one row or value is
    missing.
    """
    first, last = -(-times[0] // 86400) * 86400, (times[-1] + seconds) // 86400 * 86400
    days = np.arange(first, last, seconds)
    if not len(days):
        raise BadInput(f"{path.name} has no whole day")
    whole = np.full((len(days), rows.shape[1]), np.nan)
    row, off = np.divmod(times - first, seconds)
    inside = (off == 0) & (row >= 0) & (row < len(days))
    whole[row[inside]] = rows[inside]
    lacking = np.isnan(whole)
    if lacking.any():
        lost = [f"{n} of {name}" for name, n in zip(COLUMNS, lacking.sum(axis=0), strict=True) if n]
        where = days[lacking.any(axis=1)].astype("datetime64[s]").astype("datetime64[m]")
        raise BadInput(
            f"forcing {path.name} lacks {', '.join(lost)} of {len(days)} values, from {where[0]} to "
            f"{where[-1]}",
            expected="no -9999 and no missing row between the first and the last whole day",
            hint="fill the gaps, for instance from the _ERA columns, or cut the file",
        )
    return days, whole


def _to_utc(values: Array, shift: int, rows_a_day: int) -> Array:
    """Return values (n) of a clock `shift` rows ahead of UTC on the UTC days of the same dates.

    >>> _to_utc(np.arange(8), 1, 4)
    array([1, 2, 3, 4, 5, 6, 7, 4])
    """
    if shift == 0:
        return values
    if shift > 0:
        return np.concatenate([values[shift:], values[-rows_a_day:][:shift]])
    return np.concatenate([values[:rows_a_day][shift:], values[:shift]])


def _in_clm_units(rows: Array, seconds: int) -> dict[str, Array]:
    """Return rows (n, columns) in the variables and units of CLM's forcing."""
    celsius, light, longwave, deficit, pressure, rain, wind = rows.T
    saturation = 611.0 * np.exp(17.625 * celsius / (243.04 + celsius))  # over water, as measured
    vapour = np.maximum(saturation - 100.0 * deficit, 0.01 * saturation)
    return {
        "PRECTmms": rain / seconds,
        "FSDS": np.maximum(light, 0.0),  # pyranometers read a little below 0 at night
        "TBOT": celsius + ZERO,
        "PSRF": 1e3 * pressure,
        "QBOT": 0.622 * vapour / (1e3 * pressure - 0.378 * vapour),
        "WIND": wind,
        "FLDS": longwave,
    }
