"""One member through all time steps: the physics that parameters touch, compiled by numba.

Members are computed one after the other by scalar code: a member's bits cannot depend on its batch mates.
Conductances in m s-1, fluxes per ground area unless said otherwise.

Numba's cache on disk only watches the file of the function that is cached. So one function is, `run_member`,
and a digest of all files with compiled code belongs to its key (`_cached`); those that it calls are compiled
with it.

Per step: stomata and photosynthesis of sunlit and shaded leaves at air temperature, then the energy
balance of ground and canopy of every plant functional type, linearised at air temperature (Penman-Monteith),
then snow and soil water, which the types share.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, sqrt, tanh
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numba import njit

from fatescal.models.canopy import drivers, soil_water, surface_energy, thermo, weather
from fatescal.models.canopy import leaf as leaves
from fatescal.models.canopy.leaf import canopy_photosynthesis
from fatescal.models.canopy.soil_water import (
    capillary_rise,
    openness,
    redistributed,
    soil_resistance,
    suction_of,
)
from fatescal.models.canopy.surface_energy import canopy_balance, ground_balance
from fatescal.models.canopy.thermo import FUSION, GRAVITY, ZERO
from fatescal.models.canopy.weather import STEP, STEPS_PER_DAY

COMPILED = (leaves, surface_energy, soil_water, drivers, thermo, weather)  # beside this file
DAILY = {
    "gpp": "kg C m-2 s-1",
    "evaporation": "kg m-2 s-1",  # the sum of the next three
    "transpiration": "kg m-2 s-1",
    "interception": "kg m-2 s-1",  # rain and snow that evaporate from the canopy
    "ground": "kg m-2 s-1",  # soil and snow
    "sensible": "W m-2",
    "net_radiation": "W m-2",
    "stress": "1",  # water stress, mean of the types; 1 is none
    "snow": "mm",  # at the end of the day
    "soil_water": "mm",  # at the end of the day
}
N_DAILY = len(DAILY)

CARBON = 12.011e-9  # kg C per umol
SOIL_ALBEDO, SNOW_ALBEDO = 0.12, 0.65  # broadband; snow under trees is old and littered (Essery et al. 2009)
SNOW_COVER = 10.0  # mm of water at which half of the ground is white
SNOW_DENSITY, SNOW_CONDUCTIVITY = 250.0, 0.2  # kg m-3, W m-1 K-1 (Sturm et al. 1997)
SOIL_CONDUCTIVITY = 1.2  # W m-1 K-1
SOIL_HEAT_DEPTH, SOIL_HEAT_CAPACITY = 0.5, 2.3e6  # m, J m-3 K-1, the slab that stores heat
MELT_UNLOAD, WIND_UNLOAD = 1.87e5, 1.56e5 / 0.5  # K s, m: unloading of snow (Roesch et al. 2001; CLM5)
LEAST_CAPACITY = 0.02  # 1, of photosynthesis in deep winter
EVERGREEN = 0  # the type whose photosynthesis winter takes away (needleleaf stands first in the site)
LEAST_STABLE, MOST_STABLE = -0.9, 50.0  # bounds of Choudhury's stability parameter


class Column(NamedTuple):
    """What the types share at the beginning of a step."""

    snow: float  # mm
    top: float  # mm
    t_soil: float  # K
    psi_top: float  # mm, suction
    psi_deep: float  # mm
    white: float  # 1, share of the ground under snow
    albedo: float  # 1
    g_heat: float  # W m-2 K-1, from the surface into the soil
    r_soil: float  # s m-1


class Patch(NamedTuple):
    """What one type did in a step, per its own area."""

    gross: float  # umol m-2 s-1
    transpired: float  # kg m-2 s-1
    intercepted: float  # kg m-2 s-1
    e_soil: float  # kg m-2 s-1
    e_snow: float  # kg m-2 s-1
    melt: float  # kg m-2 s-1
    sensible: float  # W m-2
    net: float  # W m-2
    ground_heat: float  # W m-2
    imbalance: float  # W m-2
    rain_below: float  # mm per step
    snow_below: float  # mm per step
    open_top: float  # 1, openness by water of the upper layer
    open_deep: float  # 1


@njit(error_model="numpy")
def _intercept(d, w, t, p, liquid, ice):
    """Catch rain and snow, drop what melts, blows off or finds no leaf; return what falls through [mm].

    CLM5, eqs 2.7.4-2.7.14. Falling snow stays snow: its melting is paid for on the ground.
    """
    plant = w.plant
    room, room_snow = t.hold_liquid * plant, t.hold_snow * plant
    caught = min(d.rain * tanh(plant), max(room - liquid[p], 0.0))
    caught_snow = min(d.snow * (1.0 - exp(-0.5 * plant)), max(room_snow - ice[p], 0.0))
    liquid[p] += caught
    ice[p] += caught_snow
    loose = (max(d.tair - 270.15, 0.0) / MELT_UNLOAD + d.wind / WIND_UNLOAD) * STEP
    fallen = ice[p] * loose / (1.0 + loose)
    drip = max(liquid[p] - room, 0.0)
    liquid[p] -= drip
    ice[p] -= fallen
    wet = t.wettable * min(np.cbrt(liquid[p] / room) ** 2, 1.0)
    covered = min(np.cbrt(ice[p] / room_snow) ** 2, 1.0)
    return d.rain - caught + drip, d.snow - caught_snow + fallen, wet, covered


@njit(error_model="numpy")
def _stability(buoyancy, rise):
    """Return the factor on a neutral aerodynamic conductance: Choudhury et al. 1986.

    Surfaces colder than air by much decouple, but never wholly.
    """
    instability = min(max(buoyancy * rise, LEAST_STABLE), MOST_STABLE)
    if instability > 0.0:
        return sqrt(sqrt((1.0 + instability) ** 3))
    return (1.0 + instability) ** 2


@njit(error_model="numpy")
def _ground(d, column, energy, g_ground, dry):
    """Return `ground_balance` for an aerodynamic conductance; snow and bare soil share one temperature."""
    return ground_balance(
        energy, d.rho_cp * g_ground + d.radiative + column.g_heat,
        d.kappa * (1.0 - column.white) / (1.0 / g_ground + column.r_soil), d.kappa * column.white * g_ground,
        d.deficit, d.slope, max(column.top - dry, 0.0) / STEP, column.snow / STEP,
        d.vaporization, d.vaporization + FUSION, ZERO - d.tair,
    )  # fmt: skip


@njit(error_model="numpy")
def _patch(d, w, t, column, capacity, decayed, dry, p, liquid, ice):
    """Return the fluxes of type `p` in a step; changes its stores `liquid` and `ice`.

    `d`, `w`, `t`: the step's weather (`drivers.STEP_DRIVERS`), the type's leaves and light
    (`drivers.TYPE_DRIVERS`) and the type's traits (`TRAITS`).
    """
    tair, kappa, deficit, slope, rho_cp = d.tair, d.kappa, d.deficit, d.slope, d.rho_cp
    lv, ls = d.vaporization, d.vaporization + FUSION
    plant, sky, radiative = w.plant, w.sky, d.radiative
    open_top = t.root_top * openness(column.psi_top, t.smpso, t.smpsc)
    open_deep = (1.0 - t.root_top) * openness(column.psi_deep, t.smpso, t.smpsc)
    u_star = t.drag * d.wind
    gb = t.ventilation * sqrt(d.wind)
    gross, g_sun, g_shade = canopy_photosynthesis(d, w, t, decayed, open_top + open_deep, capacity, gb)
    rain_below, snow_below, wet, covered = _intercept(d, w, t, p, liquid, ice)

    # conductances to vapour of leaves, rain and snow on the canopy
    g_leaf = (1.0 - min(wet + covered, 1.0)) * gb * (
        w.sun_lai * g_sun / (gb + g_sun) + (w.lai - w.sun_lai) * g_shade / (gb + g_shade)
    )  # fmt: skip
    g_plant = gb * plant
    g_liquid, g_ice = wet * g_plant, covered * g_plant
    g_total = g_leaf + g_liquid + g_ice

    # energy of the canopy; a first, neutral solution tells how stable the air is
    upward_light = w.sw_ground * column.albedo
    energy = w.sw_canopy + upward_light * w.underside + (1.0 - sky) * d.longwave
    ga = t.drag * u_star
    vapour = kappa * lv * g_total * ga / (ga + g_total)
    conducting = rho_cp * ga * g_plant / (ga + g_plant) + (1.0 - sky) * radiative
    ga *= _stability(d.buoyancy, (energy - vapour * deficit) / (conducting + vapour * slope))

    # ground below: exchanges long-wave with the sky and with the canopy at air temperature
    energy_ground = w.sw_ground - upward_light + sky * d.longwave + column.g_heat * (column.t_soil - tair)
    bare = exp(-plant)
    under = bare * t.bare_drag * d.wind055 + (1.0 - bare) * t.csoilc * u_star
    rise_ground, e_soil, e_snow, melt = _ground(d, column, energy_ground, ga * under / (ga + under), dry)
    if rise_ground < 0.0:  # cold air lies below the canopy (CLM5, eqs 2.5.119-120)
        richardson = GRAVITY * t.height * -rise_ground / (tair * u_star * u_star)
        under /= 1.0 + 0.5 * min(richardson, 10.0)
        rise_ground, e_soil, e_snow, melt = _ground(d, column, energy_ground, ga * under / (ga + under), dry)
    g_ground = ga * under / (ga + under)
    ground_heat = column.g_heat * (rise_ground + tair - column.t_soil)

    # canopy above, warmed by the ground's long-wave
    energy += (1.0 - sky) * radiative * rise_ground
    g_heat = ga * g_plant / (ga + g_plant)
    conducting = rho_cp * g_heat + (1.0 - sky) * radiative
    series = kappa * ga / (ga + g_total)
    rise, transpired, e_liquid, e_ice = canopy_balance(
        energy, conducting, series * g_leaf, series * g_liquid, series * g_ice,
        deficit, slope, liquid[p] / STEP, ice[p] / STEP, lv, ls,
    )  # fmt: skip
    if deficit + slope * rise < 0.0:  # dew or rime settles on the whole plant
        frost = 1.0 if tair < ZERO else 0.0
        rise, transpired, e_liquid, e_ice = canopy_balance(
            energy, conducting, 0.0, kappa * g_heat * (1.0 - frost), kappa * g_heat * frost,
            deficit, slope, liquid[p] / STEP, ice[p] / STEP, lv, ls,
        )  # fmt: skip
    liquid[p] -= e_liquid * STEP
    ice[p] -= e_ice * STEP

    sensible = rho_cp * (g_heat * rise + g_ground * rise_ground)
    net = (
        w.sw_canopy + w.sw_ground - upward_light * (1.0 - w.underside)
        + d.longwave - radiative * ((1.0 - sky) * rise + sky * rise_ground)
    )  # fmt: skip
    latent = lv * (transpired + e_liquid + e_soil) + ls * (e_ice + e_snow)
    imbalance = net - sensible - latent - ground_heat - FUSION * melt
    return Patch(
        gross, transpired, e_liquid + e_ice, e_soil, e_snow, melt, sensible, net, ground_heat, imbalance,
        rain_below, snow_below, open_top, open_deep,
    )  # fmt: skip


@njit(error_model="numpy")
def _column(d, soil, d_max, snow, top, deep, t_soil):
    """Return the shared state at the beginning of a step."""
    white = snow / (snow + SNOW_COVER)
    insulation = 0.5 * SOIL_HEAT_DEPTH / SOIL_CONDUCTIVITY + snow / (SNOW_DENSITY * SNOW_CONDUCTIVITY)
    return Column(
        snow, top, t_soil, suction_of(top, soil.top, soil), suction_of(deep, soil.deep, soil), white,
        SOIL_ALBEDO + (SNOW_ALBEDO - SOIL_ALBEDO) * white, 1.0 / insulation,
        soil_resistance(top, soil, d_max, d.vapour_diffusivity),
    )  # fmt: skip


@njit(error_model="numpy")
def _run(traits, steps, types, soil, order, n_spin, out, ledger):
    """Run one member: `run_member`."""
    n_types = len(traits)
    liquid, ice, decayed = np.zeros(n_types), np.zeros(n_types), np.zeros(n_types)
    flux = np.zeros(N_DAILY)
    snow, top, deep, t_soil = 0.0, 0.7 * soil.top, 0.7 * soil.deep, 277.0
    evergreen = traits[EVERGREEN]
    warmth = steps[order[0]].tair - ZERO
    for k in range(len(order)):
        d = steps[order[k]]
        celsius = d.tair - ZERO
        warmth = celsius + evergreen.recovery_memory * (warmth - celsius)
        recovered = (warmth - evergreen.recovery_start) / evergreen.recovery_range
        recovered = min(max(recovered, LEAST_CAPACITY), 1.0)
        column = _column(d, soil, evergreen.d_max, snow, top, deep, t_soil)
        before = snow + top + deep
        imbalance = evaporated = 0.0
        for p in range(n_types):
            t, w = traits[p], types[order[k], p]
            if k % STEPS_PER_DAY == 0:
                decayed[p] = exp(-t.kn * w.lai)
            before += t.share * (liquid[p] + ice[p])
            capacity = recovered if p == EVERGREEN else 1.0
            x = _patch(d, w, t, column, capacity, decayed[p], soil.dry, p, liquid, ice)
            before -= t.share * (liquid[p] + ice[p])
            imbalance += t.share * x.imbalance
            snow += t.share * (x.snow_below - (x.melt + x.e_snow) * STEP)
            t_soil += t.share * x.ground_heat * STEP / (SOIL_HEAT_DEPTH * SOIL_HEAT_CAPACITY)
            btran = x.open_top + x.open_deep
            from_top = x.transpired * x.open_top / btran if btran > 0.0 else 0.0
            top += t.share * (x.rain_below + (x.melt - x.e_soil - from_top) * STEP)
            deep -= t.share * (x.transpired - from_top) * STEP
            ground = x.e_soil + x.e_snow
            total = x.transpired + x.intercepted + ground
            evaporated += t.share * total * STEP
            flux[0] += t.share * x.gross * CARBON
            flux[1] += t.share * total
            flux[2] += t.share * x.transpired
            flux[3] += t.share * x.intercepted
            flux[4] += t.share * ground
            flux[5] += t.share * x.sensible
            flux[6] += t.share * x.net
            flux[7] += t.share * btran
        if snow < 1e-9:  # rounding, or the last grains: they are water
            top += snow
            snow = 0.0
        lifted = capillary_rise(top, deep, column.psi_top, column.psi_deep, soil)
        top, deep, lost = redistributed(top, deep, lifted, soil)
        error = before + d.rain + d.snow - evaporated - lost - (snow + top + deep)
        ledger[0], ledger[1] = max(ledger[0], abs(imbalance)), max(ledger[1], abs(error))
        if (k + 1) % STEPS_PER_DAY == 0:
            if k >= n_spin:
                day = (k - n_spin) // STEPS_PER_DAY
                for j in range(N_DAILY):
                    out[day, j] = flux[j] / STEPS_PER_DAY
                out[day, 8], out[day, 9] = snow, top + deep
            flux[:] = 0.0


def _cached(digest: int) -> Callable[..., None]:
    """Return `run_member`, cached on disk by the digest of its sources: it is closed over, so of the key."""

    @njit(cache=True, error_model="numpy")
    def run_member(traits, steps, types, soil, order, n_spin, out, ledger):
        """Run one member over the driver steps `order`, the first `n_spin` of them unrecorded.

        Parameters
        ----------
        traits : array (F) of TRAITS
        steps, types : arrays (n), (n, F)
            Drivers.
        soil : Soil
        order : array
            Rows of the drivers, as they are run.
        out : array (days, N_DAILY)
            Filled with daily means, columns as in `DAILY`.
        ledger : array (2)
            Filled with the largest imbalance of any step: energy [W m-2], water [mm].
        """
        if digest:
            _run(traits, steps, types, soil, order, n_spin, out, ledger)

    return run_member


def _digest() -> int:
    """Return a digest of the sources that are compiled, and of those whose constants are compiled in."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in COMPILED)
    return 1 + crc32(sources)


run_member = _cached(_digest())
