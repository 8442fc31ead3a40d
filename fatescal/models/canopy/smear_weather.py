"""Three-hourly weather from the daily meteorology of a flux tower (SMEAR csv), split by the sun's course.

What a daily file does not say is inferred: the temperature's daily range from how clear the sky was,
long-wave radiation from measured net radiation. Daily means of temperature, light, wind and pressure and
the daily sum of precipitation are kept.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.models.canopy import weather
from fatescal.models.canopy.fluxnet_weather import read_fluxnet
from fatescal.models.canopy.solar import solar_geometry
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.thermo import STEFAN_BOLTZMANN, ZERO
from fatescal.models.canopy.weather import STEPS_PER_DAY, Weather, mend, noleap_day
from fatescal.observations import readers
from fatescal.observations.calendars import exists

log = logging.getLogger(__name__)

COLUMNS = ("PAR", "Tair", "VPD", "Precip_FMI", "U", "P", "Rnet")
PHOTONS = 2.06  # umol of PAR per J of global radiation (Ross & Sulev 2000: 0.45 x 4.57)
CLEAR = 0.75  # transmissivity of a cloudless day
ABSORBED = 0.90  # share of short-wave radiation a boreal forest absorbs


def read_forcing(path: Path, site: Stand) -> Weather:
    """Read the forcing at `path`: a csv of tower meteorology, else CLM's netCDF files; what was mended is
    logged.

    A csv is half-hourly where it has FLUXNET's columns of time, else daily.
    """
    if path.suffix != ".csv":
        forcing = weather.read(path)
    elif readers.detect(path).format == "fluxnet":
        forcing = read_fluxnet(path, site)
    else:
        forcing = read_smear(path, site)
    for note in forcing.notes:
        log.info("forcing %s: %s", path, note)
    return forcing


def read_smear(path: Path, site: Stand) -> Weather:
    """Read a SMEAR daily csv with the columns `COLUMNS` (units as in its header) and a `date`.

    Days are local (UTC+2) and taken as UTC days: next to no light falls into the two hours between.
    29 February is left out.

    Raises
    ------
    BadInput
        For missing columns or days, or values no weather has.
    """
    table, _ = readers.read(path, COLUMNS, "date")
    table = table[exists(table.index.to_numpy(), "noleap")]
    days = np.array([noleap_day(day.date()) for day in table.index])
    if (np.diff(days) != 1).any():
        raise BadInput(f"{path.name} skips days", expected="one row a day")
    notes = []
    if gaps := int(table.isna().to_numpy().sum()):
        if gaps > 0.01 * table.size:
            raise BadInput(f"{path.name} lacks {gaps} of {table.size} values", expected="at most 1 per cent")
        notes.append(f"{gaps} missing values of {path.name} interpolated")
        table = table.interpolate(limit_direction="both")
    daily = {name: table[name].to_numpy(float) for name in COLUMNS}
    identity = {"forcing": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}
    return mend(int(days[0]), disaggregate(daily, int(days[0]) % 365, site), identity, notes)


def disaggregate(daily: dict[str, Array], first_day: int, site: Stand) -> dict[str, Array]:
    """Return three-hourly series (8 n) in CLM's units from daily ones (n).

    `first_day` counts from 1 January (0).
    """
    n = len(daily["Tair"])
    year = solar_geometry(365, STEPS_PER_DAY, site.latitude, site.longitude)["toa"].reshape(365, -1)
    toa = year[(first_day + np.arange(n)) % 365]  # (n, 8)
    light = np.maximum(daily["PAR"], 0.0) / PHOTONS
    fsds = toa * (light / toa.mean(axis=1))[:, None]

    # half the daily range: 1 K under cloud, up to 6.5 K on clear days when the sun is high
    clearness = np.clip(light / toa.mean(axis=1) / CLEAR, 0.0, 1.0)
    swing = 1.0 + 5.5 * clearness * np.minimum(toa.max(axis=1) / 1000.0, 1.0)
    hour = (np.arange(STEPS_PER_DAY) + 0.5) * 24 / STEPS_PER_DAY + site.longitude / 15.0
    wave = np.cos(2 * np.pi * (hour - 14.5) / 24.0)  # warmest at 14:30 solar time; sums to zero
    tair = daily["Tair"][:, None] + swing[:, None] * wave + ZERO

    saturation = 611.0 * np.exp(17.625 * (tair - ZERO) / (243.04 + tair - ZERO))  # over water, as measured
    vapour = np.maximum(saturation.mean(axis=1) - 1e3 * daily["VPD"], 0.05 * saturation.min(axis=1))
    pressure = 100.0 * daily["P"]
    emitted = STEFAN_BOLTZMANN * tair**4
    sky = (daily["Rnet"] - ABSORBED * light) / emitted.mean(axis=1) + 1.0  # emissivity of the sky
    series = {
        "PRECTmms": np.maximum(daily["Precip_FMI"], 0.0) / 86400.0,
        "FSDS": fsds,
        "TBOT": tair,
        "PSRF": pressure,
        "QBOT": 0.622 * vapour / (pressure - 0.378 * vapour),
        "WIND": daily["U"],
        "FLDS": np.clip(sky, 0.6, 1.05)[:, None] * emitted,
    }
    return {
        name: (values if values.ndim == 2 else np.repeat(values[:, None], STEPS_PER_DAY, axis=1)).reshape(-1)
        for name, values in series.items()
    }
