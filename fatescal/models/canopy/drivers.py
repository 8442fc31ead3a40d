"""Everything that depends on weather and site only, computed once per process and shared by all members."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fatescal.base.types import Array
from fatescal.models.canopy.solar import solar_geometry
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.thermo import (
    DRY_AIR,
    EMISSIVITY,
    GAS,
    GRAVITY,
    HEAT_CAPACITY,
    STEFAN_BOLTZMANN,
    ZERO,
    saturation_pressure,
    saturation_slope,
    vaporization_heat,
)
from fatescal.models.canopy.weather import STEP, STEPS_PER_DAY, Weather

CO2 = 389.8e-6  # mol mol-1, CCSM_CO2_PPMV of the reference study
OXYGEN = 0.209  # mol mol-1
LOWEST_WIND = 1.0  # m s-1, CLM5 wind_min
REFERENCE_HEIGHT = 30.0  # m above the displacement height, CLM's forcing height


STEP_DRIVERS = np.dtype(
    [
        ("tair", float),  # K
        ("wind", float),  # m s-1
        ("wind055", float),  # wind**0.55, for the drag of bare soil
        ("rho_cp", float),  # J m-3 K-1
        ("kappa", float),  # kg m-3 Pa-1, vapour density over vapour pressure
        ("deficit", float),  # Pa, saturation deficit of the air
        ("slope", float),  # Pa K-1, of the saturation pressure
        ("saturation", float),  # Pa
        ("vaporization", float),  # J kg-1
        ("molar", float),  # mol m-3 of air
        ("pressure", float),  # Pa
        ("longwave", float),  # W m-2, absorbed from the sky less what a surface at air temperature emits
        ("radiative", float),  # W m-2 K-1, rise of emission with temperature
        ("buoyancy", float),  # K-1, 5 g z / (T u^2): stability parameter over temperature difference
        ("rain", float),  # mm per step
        ("snow", float),  # mm per step
        ("vapour_diffusivity", float),  # m2 s-1
        ("daylight", float),  # 1, share of the step with sun
        ("f_vcmax", float),  # 1, rate over rate at 25 degC
        ("f_jmax", float),  # 1, jmax over vcmax at 25 degC
        ("f_rd", float),  # 1, leaf respiration over vcmax at 25 degC
        ("gamma", float),  # Pa, CO2 compensation point
        ("km", float),  # Pa, Michaelis-Menten constant in air
    ]
)
TYPE_DRIVERS = np.dtype(
    [
        ("lai", float),  # m2 m-2
        ("plant", float),  # m2 m-2, leaves and stems
        ("sky", float),  # 1, share of long-wave radiation that passes the canopy
        ("sun_lai", float),  # m2 m-2
        ("decay", float),  # 1, extinction of the beam per leaf area, clumped, stems counted
        ("clumping", float),  # 1
        ("sun_par", float),  # umol m-2 s-1 absorbed per sunlit leaf area while the sun is up
        ("shade_par", float),  # umol m-2 s-1
        ("sw_canopy", float),  # W m-2 absorbed above a black ground
        ("sw_ground", float),  # W m-2 that reach the ground
        ("underside", float),  # 1, share of the light from below that the canopy absorbs
    ]
)


class Drivers(NamedTuple):
    """Records of all steps. Compiled code passes a record by its address: three times as fast as arrays."""

    step: Array  # (n) of STEP_DRIVERS
    type: Array  # (n, F) of TYPE_DRIVERS


# Optics of FATES api 30 (fates_rad_leaf_*), needleleaf, broadleaf, grass; visible, near infrared. Clumping of
# pine: needles shade each other in the shoot, by 43 per cent (Oker-Blom & Smolander 1988, For. Sci. 34:894);
# FATES has 0.85
_CLUMPING = np.array([0.57, 0.9, 0.75])
_LEAF_ANGLE = np.array([0.01, 0.59, -0.23])
_SCATTERING = {"vis": np.array([0.13, 0.14, 0.10]), "nir": np.array([0.73, 0.84, 0.68])}


def drive(weather: Weather, site: Stand) -> Drivers:
    """Return the drivers of all steps of `weather`."""
    v = weather.values
    tair, pressure = v["TBOT"], v["PSRF"]
    saturation = saturation_pressure(tair)
    vapour = v["QBOT"] * pressure / (0.622 + 0.378 * v["QBOT"])
    wind = np.maximum(v["WIND"], LOWEST_WIND)
    rho = pressure / (DRY_AIR * tair * (1 + 0.608 * v["QBOT"]))
    frozen = np.clip((2.0 - (tair - ZERO)) / 2.0, 0.0, 1.0)  # CLM5: all snow at 0, all rain at 2 degC
    sun = _sun(weather, site)
    leaves = _light(v["FSDS"], sun, *_leaf_area(weather, site))
    air = dict(
        tair=tair,
        wind=wind,
        wind055=wind**0.55,
        rho_cp=rho * HEAT_CAPACITY,
        kappa=rho * 0.622 / pressure,
        # reanalysis air is often supersaturated in winter: it is taken as saturated
        deficit=np.maximum(saturation - vapour, 0.0),
        slope=saturation_slope(tair),
        saturation=saturation,
        vaporization=vaporization_heat(tair),
        molar=pressure / (GAS * tair),
        pressure=pressure,
        longwave=EMISSIVITY * (v["FLDS"] - STEFAN_BOLTZMANN * tair**4),
        radiative=EMISSIVITY * 4 * STEFAN_BOLTZMANN * tair**3,
        buoyancy=5 * GRAVITY * REFERENCE_HEIGHT / (tair * wind**2),
        rain=v["PRECTmms"] * STEP * (1 - frozen),
        snow=v["PRECTmms"] * STEP * frozen,
        vapour_diffusivity=2.12e-5 * (tair / ZERO) ** 1.75,
        daylight=sun["daylight"],
        **_biochemistry(tair, pressure),
    )
    return Drivers(
        _records(STEP_DRIVERS, tair.shape, air), _records(TYPE_DRIVERS, leaves["lai"].shape, leaves)
    )


def _records(dtype: np.dtype, shape: tuple[int, ...], fields: dict[str, Array]) -> Array:
    """Return an array of records from arrays of their fields."""
    records = np.empty(shape, dtype)
    for name in dtype.names or ():
        records[name] = fields[name]
    return records


def _sun(weather: Weather, site: Stand) -> dict[str, Array]:
    """Return solar geometry of the weather's steps; light without sun is diffuse and lasts the whole step."""
    year = solar_geometry(365, STEPS_PER_DAY, site.latitude, site.longitude)
    steps = (weather.first_day % 365) * STEPS_PER_DAY + np.arange(len(weather.values["FSDS"]))
    sun = {name: series[steps % len(series)] for name, series in year.items()}
    stray = (weather.values["FSDS"] > 0) & (sun["daylight"] < 0.1)
    return sun | {
        "cosine": np.where(stray, 0.0, sun["cosine"]),
        "daylight": np.where(stray, 1.0, sun["daylight"]),
    }


def _leaf_area(weather: Weather, site: Stand) -> tuple[Array, Array]:
    """Return LAI and LAI + SAI of every step (n, F)."""
    n = weather.n_days
    days = (weather.first_day + np.arange(n)) % 365
    lai = np.repeat(site.monthly_to_daily(site.lai)[days], STEPS_PER_DAY, axis=0)
    return lai, lai + np.repeat(site.monthly_to_daily(site.sai)[days], STEPS_PER_DAY, axis=0)


def _biochemistry(tair: Array, pressure: Array) -> dict[str, Array]:
    """Return temperature responses at air temperature.

    Peaked Arrhenius with acclimation to the last ten days (Kattge & Knorr 2007; Oleson et al. 2013,
    CLM4.5 technical note, eqs 8.9-8.15); Michaelis-Menten constants of Bernacchi et al. 2001.
    """
    growth = np.clip(_trailing_mean(tair, 10 * STEPS_PER_DAY) - ZERO, 11.0, 35.0)

    def arrhenius(energy: float) -> Array:
        return np.exp(energy / (298.15 * GAS) * (1 - 298.15 / tair))

    def peaked(energy: float, entropy: Array, deactivation: float = 200000.0) -> Array:
        def loss(t: Array) -> Array:
            return 1 + np.exp((entropy * t - deactivation) / (GAS * t))

        return arrhenius(energy) * loss(np.array(298.15)) / loss(tair)

    kc = 404.9e-6 * pressure * arrhenius(79430.0)
    ko = 278.4e-3 * pressure * arrhenius(36380.0)
    return {
        "f_vcmax": peaked(72000.0, 668.39 - 1.07 * growth),
        "f_jmax": (2.59 - 0.035 * growth) * peaked(50000.0, 659.70 - 0.75 * growth),
        "f_rd": 0.015 * peaked(46390.0, np.array(490.0), 150650.0),
        "gamma": 42.75e-6 * pressure * arrhenius(37830.0),
        "km": kc * (1 + OXYGEN * pressure / ko),
    }


def _trailing_mean(x: Array, length: int) -> Array:
    """Return the mean over the last `length` steps; the first ones look back into a repeat of the start."""
    padded = np.concatenate([x[:length], x])
    total = np.concatenate([[0.0], np.cumsum(padded)])
    return (total[length + 1 :] - total[1:-length])[-len(x) :] / length


def _light(fsds: Array, sun: dict[str, Array], lai: Array, plant: Array) -> dict[str, Array]:
    """Return the light absorbed by sunlit and shaded leaves, and by canopy and ground.

    de Pury & Farquhar 1997 (appendix), with clumping and stems; a wave band at a time.
    """
    cosine = np.maximum(sun["cosine"], 0.05)[:, None]
    kb = _projection(cosine) / cosine  # (n, F)
    path = kb * _CLUMPING * plant
    sunlit = -np.expm1(-path)
    kd = _diffuse_extinction(plant)
    up = np.where(sun["daylight"] > 0, fsds / np.maximum(sun["daylight"], 1e-3), 0.0)
    absorbed, of_sunlit, reaching, underside = {}, {}, {}, 0.0
    for band, scattering in _SCATTERING.items():
        beam, diffuse = (x[:, None] for x in _partition(0.5 * up, band, sun["cosine"] > 0))
        root = np.sqrt(1 - scattering)
        rho_h = (1 - root) / (1 + root)
        rho_b, rho_d = 1 - np.exp(-2 * rho_h * kb / (1 + kb)), 1 - np.exp(-2 * rho_h * kd / (1 + kd))
        db, dd = path * root, kd * plant * root  # optical depths with scattering; kd has the clumping in it
        total = beam * (1 - rho_b) * -np.expm1(-db) + diffuse * (1 - rho_d) * -np.expm1(-dd)
        direct = beam * (1 - scattering) * sunlit
        scattered = beam * (
            (1 - rho_b) * -np.expm1(-(db + path)) * root / (1 + root)
            - (1 - scattering) * -np.expm1(-2 * path) / 2
        )
        soft = diffuse * (1 - rho_d) * -np.expm1(-(dd + path)) * dd / (dd + path)
        absorbed[band] = total
        of_sunlit[band] = direct + scattered + soft
        reaching[band] = beam * (1 - rho_b) * np.exp(-db) + diffuse * (1 - rho_d) * np.exp(-dd)
        underside = underside + 0.5 * -np.expm1(-dd)
    sun_plant = sunlit / kb
    share = np.divide(lai, plant, out=np.zeros_like(lai), where=plant > 0)
    umol = 4.6  # umol J-1 of photosynthetically active light
    day = sun["daylight"][:, None]
    return {
        "lai": lai,
        "plant": plant,
        "sky": np.exp(-plant),
        "sun_lai": sun_plant * share,
        "decay": kb * _CLUMPING / np.maximum(share, 1e-12) * (share > 0),
        "clumping": _CLUMPING,
        "sun_par": umol * of_sunlit["vis"] / sun_plant,
        "shade_par": umol * np.maximum(absorbed["vis"] - of_sunlit["vis"], 0.0)
        / np.maximum(plant - sun_plant, 1e-9),
        "sw_canopy": (absorbed["vis"] + absorbed["nir"]) * day,
        "sw_ground": (reaching["vis"] + reaching["nir"]) * day,
        "underside": underside,
    }  # fmt: skip


def _projection(cosine: Array) -> Array:
    """Return the Ross-Goudriaan leaf projection (n, F) at cosines of the zenith angle (n, 1)."""
    phi1 = 0.5 - 0.633 * _LEAF_ANGLE - 0.33 * _LEAF_ANGLE**2
    return phi1 + 0.877 * (1 - 2 * phi1) * cosine


def _diffuse_extinction(plant: Array) -> Array:
    """Return the extinction coefficient of a uniform sky (n, F): Gauss quadrature over the hemisphere."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    through = np.zeros_like(plant)
    for mu, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        through += 2 * weight * mu * np.exp(-_projection(np.array(mu)) / mu * _CLUMPING * plant)
    return -np.log(through) / plant


def _partition(flux: Array, band: str, up: Array) -> tuple[Array, Array]:
    """Split a band's flux [W m-2] into beam and diffuse: CLM's regressions (CLM4.5 note, 26.7-26.8)."""
    a = {
        "vis": (0.17639, 0.00380, -9.0039e-6, 8.1351e-9),
        "nir": (0.29548, 0.00504, -1.4957e-5, 1.4881e-8),
    }[band]
    share = np.clip(a[0] + flux * (a[1] + flux * (a[2] + flux * a[3])), 0.01, 0.99) * up
    return share * flux, (1 - share) * flux
