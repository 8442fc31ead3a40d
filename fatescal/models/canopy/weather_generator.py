"""Seeded boreal weather with the statistics of southern Finland, for runs without any data."""

from __future__ import annotations

from datetime import date

import numpy as np

from fatescal.base.random_streams import stream
from fatescal.base.types import Array
from fatescal.models.canopy.solar import solar_geometry
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.thermo import STEFAN_BOLTZMANN, ZERO, saturation_pressure
from fatescal.models.canopy.weather import STEPS_PER_DAY, Weather, noleap_day

VERSION = 1  # raised whenever the same seed gives other weather


def synthetic(seed: int, start: date, end: date, site: Stand) -> Weather:
    """Return weather of `start` .. `end`; a year depends on the seed and its own number only."""
    years = [_year(stream(seed, "synthetic weather", year), site) for year in range(start.year, end.year + 1)]
    values = {name: np.concatenate([year[name] for year in years]) for name in years[0]}
    identity = {"forcing": "synthetic", "seed": seed, "version": VERSION}
    return Weather(noleap_day(date(start.year, 1, 1)), values, identity).period(start, end)


def _red_noise(rng: np.random.Generator, n: int, memory: float) -> Array:
    """Return a first-order autoregressive series (n) of unit variance."""
    noise = rng.standard_normal(n)
    for i in range(1, n):
        noise[i] = memory * noise[i - 1] + np.sqrt(1 - memory**2) * noise[i]
    return noise


def _year(rng: np.random.Generator, site: Stand) -> dict[str, Array]:
    """Return one year (2920 steps) of every variable, in CLM's units."""
    day = np.arange(365)
    season = -np.cos(2 * np.pi * (day - 18) / 365)  # -1 in mid-January, 1 in mid-July
    synoptic = _red_noise(rng, 365, 0.75)
    wet = synoptic + 0.8 * rng.standard_normal(365) > 0.25  # wet spells come with the weather systems
    amount = rng.gamma(0.8, (2.6 + 1.4 * season) / 0.45, 365) * wet  # mm
    cloud = np.clip(np.where(wet, 0.85, 0.45) + 0.2 * rng.standard_normal(365), 0.0, 1.0)
    # in winter clouds keep the night warm, in summer they keep the sun away
    mean = 4.0 + 12.0 * season + (3.6 - 1.6 * season) * _red_noise(rng, 365, 0.85)
    mean -= 3.0 * season * (cloud - 0.6)

    sun = solar_geometry(365, STEPS_PER_DAY, site.latitude, site.longitude)
    hourly_cloud = np.repeat(cloud, STEPS_PER_DAY)
    fsds = sun["toa"] * (0.73 - 0.55 * hourly_cloud**2)
    step = np.arange(365 * STEPS_PER_DAY)
    noon = step % STEPS_PER_DAY + 0.5 - (14.5 - site.longitude / 15.0) / 3.0  # warmest at 14:30 solar time
    swing = (1.5 + 4.5 * (season + 1) / 2 * 1.2) * (1.2 - 0.8 * cloud)
    smooth_mean = np.interp(step + 0.5, (day + 0.5) * STEPS_PER_DAY, mean)
    tbot = ZERO + smooth_mean + np.repeat(swing, STEPS_PER_DAY) * np.cos(2 * np.pi * noon / STEPS_PER_DAY)

    dryness = np.repeat((0.8 + 2.8 * (season + 1) / 2) * (1.35 - cloud), STEPS_PER_DAY)  # K below the night's
    dew = ZERO + smooth_mean - np.repeat(swing, STEPS_PER_DAY) - dryness + 1.0
    vapour = saturation_pressure(np.minimum(dew, tbot))
    psrf = 99400.0 + 1000.0 * np.repeat(_red_noise(rng, 365, 0.8) - 0.4 * wet, STEPS_PER_DAY)
    wind = 2.8 * np.exp(0.35 * np.repeat(_red_noise(rng, 365, 0.5), STEPS_PER_DAY))
    wind *= 1 + 0.2 * np.cos(2 * np.pi * noon / STEPS_PER_DAY)
    # clear-sky emissivity Prata 1996, clouds as a black share of the sky
    w = 4.65 * vapour / tbot  # kg m-2 of precipitable water (46.5 e / T with e in hPa)
    clear = 1 - (1 + w / 10) * np.exp(-np.sqrt(1.2 + 3 * w / 10))
    flds = (clear + (1 - clear) * 0.8 * hourly_cloud) * STEFAN_BOLTZMANN * tbot**4
    return {
        "PRECTmms": _showers(rng, amount),
        "FSDS": fsds,
        "TBOT": tbot,
        "PSRF": psrf,
        "QBOT": 0.622 * vapour / (psrf - 0.378 * vapour),
        "WIND": wind,
        "FLDS": flds,
    }


def _showers(rng: np.random.Generator, amount: Array) -> Array:
    """Spread daily amounts (365) [mm] over one to four consecutive steps [mm s-1]."""
    rain = np.zeros((len(amount), STEPS_PER_DAY))
    for day, total in enumerate(amount):
        length = int(rng.integers(1, 5))
        begin = int(rng.integers(0, STEPS_PER_DAY - length + 1))
        rain[day, begin : begin + length] = total / length
    return rain.reshape(-1) / (86400 / STEPS_PER_DAY)
