"""One member through all time steps: the physics that parameters touch, compiled by numba.

All compiled code stands in this one file, because numba's cache on disk only watches the file of the
function it starts from. Members are computed one after the other by scalar code: a member's bits cannot
depend on its batch mates. Conductances in m s-1, fluxes per ground area unless said otherwise.

Per step: stomata and photosynthesis of sunlit and shaded leaves at air temperature, then the energy
balance of ground and canopy of every plant functional type, linearised at air temperature (Penman-Monteith),
then snow and soil water, which the types share.
"""

from __future__ import annotations

from math import exp, sqrt, tanh
from typing import NamedTuple

import numpy as np
from numba import njit

from fatescal.base.types import Array
from fatescal.models.canopy.drivers import CO2, REFERENCE_HEIGHT
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.thermo import FUSION, GRAVITY, KARMAN, ZERO
from fatescal.models.canopy.weather import STEP, STEPS_PER_DAY

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
THETA_PSII = 0.7  # curvature of electron transport (CLM5)
THETA_CJ = 0.98  # curvature of co-limitation (CLM5)
LEAF_TRANSFER = 0.01  # m s-1/2, CLM5 cv
SOIL_ALBEDO, SNOW_ALBEDO = 0.12, 0.65  # broadband; snow under trees is old and littered (Essery et al. 2009)
SNOW_COVER = 10.0  # mm of water at which half of the ground is white
SNOW_DENSITY, SNOW_CONDUCTIVITY = 250.0, 0.2  # kg m-3, W m-1 K-1 (Sturm et al. 1997)
SOIL_CONDUCTIVITY = 1.2  # W m-1 K-1
SOIL_HEAT_DEPTH, SOIL_HEAT_CAPACITY = 0.5, 2.3e6  # m, J m-3 K-1, the slab that stores heat
TOP_DEPTH = 0.1  # m, the soil layer that evaporates
AIR_DRY = 1e7  # mm, suction of air-dry soil (CLM5)
MELT_UNLOAD, WIND_UNLOAD = 1.87e5, 1.56e5 / 0.5  # K s, m: unloading of snow (Roesch et al. 2001; CLM5)
ROOT_A, ROOT_B = np.array([7.0, 6.0, 11.0]), np.array([2.0, 2.0, 2.0])  # m-1, fates_allom_fnrt_prof_a, _b
LEAST_CAPACITY = 0.02  # 1, of photosynthesis in deep winter
EVERGREEN = 0  # the type whose photosynthesis winter takes away (needleleaf stands first in the site)
LEAST_STABLE, MOST_STABLE = -0.9, 50.0  # bounds of Choudhury's stability parameter


class Soil(NamedTuple):
    """What the soil is: Clapp & Hornberger (1978) with Cosby et al. (1984), as in CLM5."""

    porosity: float
    suction: float  # mm, at saturation
    b: float
    conductivity: float  # mm s-1, at saturation
    top: float  # mm of pore space in the upper layer
    deep: float  # mm of pore space below
    distance: float  # mm between the layers' centres
    dry: float  # mm in the upper layer when air-dry


def soil_of(site: Stand) -> Soil:
    """Return the soil constants of a site."""
    porosity = 0.489 - 0.00126 * site.sand
    suction = 10.0 * 10 ** (1.88 - 0.0131 * site.sand)
    b = 2.91 + 0.159 * site.clay
    return Soil(
        porosity=porosity,
        suction=suction,
        b=b,
        conductivity=0.0070556 * 10 ** (-0.884 + 0.0153 * site.sand),
        top=porosity * TOP_DEPTH * 1e3,
        deep=porosity * (site.bedrock - TOP_DEPTH) * 1e3,
        distance=site.bedrock / 2 * 1e3,
        dry=porosity * TOP_DEPTH * 1e3 * (AIR_DRY / suction) ** (-1 / b),
    )


TRAITS = np.dtype(
    [
        ("vcmax", float),  # umol m-2 s-1
        ("slope", float),  # 1, Ball-Berry
        ("g0", float),  # mol m-2 s-1
        ("smpso", float),  # mm
        ("smpsc", float),  # mm
        ("drag", float),  # 1, friction velocity over wind speed in neutral air
        ("ventilation", float),  # (m s-1)1/2, leaf boundary-layer conductance over sqrt(wind)
        ("bare_drag", float),  # (m s-1)0.45, conductance below a leafless canopy over wind**0.55
        ("kn", float),  # 1, decline of nitrogen with cumulative leaf area
        ("height", float),  # m
        ("root_top", float),  # 1, share of the roots in the upper layer
        ("share", float),  # 1, of the area
        ("csoilc", float),
        ("wettable", float),  # 1
        ("hold_liquid", float),  # mm
        ("hold_snow", float),  # mm
        ("recovery_memory", float),  # 1, what a step leaves of the temperature acclimated to
        ("recovery_start", float),  # degC
        ("recovery_range", float),  # K
        ("d_max", float),  # mm
        ("quantum", float),  # 1, electrons per absorbed photon
    ]
)
"""A type of one member: its parameters as the equations use them. Those of the column are the same in all."""


def traits_of(pft: Array, column: Array, site: Stand) -> Array:
    """Return the types (F) of a member, `TRAITS`, from parameters (7, F) and (9), in the tables' order."""
    vcmax, slope, intercept, smpso, smpsc, z0mr, leaf_size = pft
    recovery_time, recovery_start, recovery_range = column[:3]
    csoilc, d_max, wettable, hold_liquid, hold_snow, fnps = column[3:]
    drag = KARMAN / np.log(REFERENCE_HEIGHT / (z0mr * site.height))
    values = {
        "vcmax": vcmax,
        "slope": slope,
        "g0": 1e-6 * intercept,
        "smpso": smpso,
        "smpsc": smpsc,
        "drag": drag,
        "ventilation": LEAF_TRANSFER * np.sqrt(drag / leaf_size),
        # CLM5 eq. 2.5.121 with 1 cm of roughness: k/0.13 (0.01 u*/1.5e-5)^-0.45 u*
        "bare_drag": KARMAN / 0.13 * (0.01 / 1.5e-5) ** -0.45 * drag**0.55,
        "kn": np.exp(0.00963 * vcmax - 2.43),  # Lloyd et al. 2010, as in FATES
        "height": site.height,
        "root_top": 1 - 0.5 * (np.exp(-ROOT_A * TOP_DEPTH) + np.exp(-ROOT_B * TOP_DEPTH)),
        "share": site.share / site.share.sum(),
        "csoilc": csoilc,
        "wettable": wettable,
        "hold_liquid": hold_liquid,
        "hold_snow": hold_snow,
        "recovery_memory": np.exp(-STEP / (86400.0 * recovery_time)),
        "recovery_start": recovery_start,
        "recovery_range": recovery_range,
        "d_max": d_max,
        "quantum": 0.5 * (1 - fnps),
    }
    traits = np.empty(len(site.pfts), TRAITS)
    for name in TRAITS.names or ():
        traits[name] = values[name]
    return traits


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


@njit(cache=True, error_model="numpy")
def assimilation(ci, vcmax, electrons, gamma, km):
    """Return gross assimilation [umol m-2 s-1] at `ci` [Pa]: Farquhar et al. 1980, Collatz et al. 1991."""
    rubisco = vcmax * (ci - gamma) / (ci + km)
    light = electrons * (ci - gamma) / (4 * ci + 8 * gamma)
    both = rubisco + light
    if ci <= gamma:
        return max(rubisco, light)
    return (both - sqrt(both * both - 4 * THETA_CJ * rubisco * light)) / (2 * THETA_CJ)


@njit(cache=True, error_model="numpy")
def conductance(net, ca, pressure, gb, g0, m, humidity):
    """Return stomatal conductance to water [mol m-2 s-1]: Ball et al. 1987 with humidity at the leaf surface.

    `humidity` is the air's vapour pressure over saturation at leaf temperature; `gb` [mol m-2 s-1] couples
    the surface to the air: g^2 + g (gb - g0 - k) - gb (g0 + k humidity) = 0, k = m A P / c_s.
    """
    if net <= 0.0:
        return g0
    cs = max(ca - 1.4e-6 * net * pressure / gb, 1.0)
    k = 1e-6 * m * net * pressure / cs
    half = 0.5 * (gb - g0 - k)
    constant = gb * (g0 + k * humidity)
    root = sqrt(half * half + constant)
    return constant / (half + root) if half > 0.0 else root - half


@njit(cache=True, error_model="numpy")
def _excess(ci, vcmax, electrons, rd, gamma, km, ca, pressure, gb, g0, m, humidity):
    """Return by how much `ci` exceeds what diffusion allows [Pa], gross assimilation and conductance."""
    gross = assimilation(ci, vcmax, electrons, gamma, km)
    gs = conductance(gross - rd, ca, pressure, gb, g0, m, humidity)
    return ci - ca + 1e-6 * (gross - rd) * pressure * (1.4 / gb + 1.6 / gs), gross, gs


@njit(cache=True, error_model="numpy")
def leaf(photons, vcmax, jmax, rd, gamma, km, ca, pressure, gb, g0, m, humidity):
    """Return gross assimilation [umol m-2 s-1] and stomatal conductance [mol m-2 s-1] of a leaf.

    Secant steps on ci inside a bracket; the first guess is exact where `g0` and 1/gb vanish,
    so that three or four evaluations reach 1e-6 Pa.
    """
    both = photons + jmax
    electrons = (both - sqrt(both * both - 4 * THETA_PSII * photons * jmax)) / (2 * THETA_PSII)
    low, high = gamma, ca
    top, gross, gs = _excess(high, vcmax, electrons, rd, gamma, km, ca, pressure, gb, g0, m, humidity)
    if top <= 0.0:  # respiration outweighs assimilation: ci lies a trace above ca
        return gross, gs
    before, f_before = high, top
    ci = min(max(ca * (1 - 1.6 / max(m * humidity, 1.7)), 1.2 * gamma), 0.98 * ca)
    for _ in range(60):
        f, gross, gs = _excess(ci, vcmax, electrons, rd, gamma, km, ca, pressure, gb, g0, m, humidity)
        if abs(f) < 1e-6:
            break
        if f > 0.0:
            high = ci
        else:
            low = ci
        slope = (f - f_before) / (ci - before)
        before, f_before = ci, f
        ci = ci - f / slope
        if not low < ci < high:
            ci = 0.5 * (low + high)
    return gross, gs


@njit(cache=True, error_model="numpy")
def ground_balance(energy, conducting, g_soil, g_snow, deficit, slope, water, snow, lv, ls, melting):
    """Return the ground's temperature rise over the air [K], evaporation, sublimation, melt [kg m-2 s-1].

    Solves energy - conducting dT = lv E + ls S + Lf M with E = g_soil (deficit + slope dT), S likewise.
    `water` and `snow` [kg m-2 s-1] bound E and S + M; `melting` is the dT of 0 degC: snow is never warmer.
    """
    sublimated = melt = dried = 0.0
    for _ in range(3):
        vapour = lv * g_soil + ls * g_snow
        stiffness = conducting + vapour * slope
        rise = (energy - vapour * deficit) / stiffness
        if snow > 0.0 and rise > melting:
            excess = (rise - melting) * stiffness / FUSION
            loss = g_snow * (deficit + slope * melting)
            if excess + loss <= snow and loss <= snow:
                rise, melt, sublimated = melting, excess, loss
            else:  # the last snow goes: what it takes is known, the bare ground has the rest
                sublimated = min(loss, snow)
                melt = snow - sublimated
                energy -= ls * sublimated + FUSION * melt
                snow, g_snow = 0.0, 0.0
                continue
        elif g_snow > 0.0:
            loss = g_snow * (deficit + slope * rise)
            if loss > snow:
                sublimated = snow
                energy -= ls * sublimated
                snow, g_snow = 0.0, 0.0
                continue
            sublimated = loss
        loss = g_soil * (deficit + slope * rise)
        if g_soil > 0.0 and loss > water:
            dried = water
            energy -= lv * dried
            g_soil = 0.0
            continue
        if g_soil > 0.0:
            dried = loss
        break
    return rise, dried, sublimated, melt


@njit(cache=True, error_model="numpy")
def canopy_balance(energy, conducting, g_leaf, g_liquid, g_ice, deficit, slope, liquid, ice, lv, ls):
    """Return temperature rise over the air [K], transpiration and evaporation of canopy rain and snow.

    Solves energy - conducting dT = lv (T + E) + ls S, each flux g (deficit + slope dT) [kg m-2 s-1]; `liquid`
    and `ice` [kg m-2 s-1] bound E and S: a store that would run dry gives what it has.
    """
    e_liquid = e_ice = 0.0
    for _ in range(3):
        vapour = lv * (g_leaf + g_liquid) + ls * g_ice
        rise = (energy - vapour * deficit) / (conducting + vapour * slope)
        drive = deficit + slope * rise
        if g_liquid > 0.0 and g_liquid * drive > liquid:
            e_liquid, g_liquid = liquid, 0.0
            energy -= lv * e_liquid
        elif g_ice > 0.0 and g_ice * drive > ice:
            e_ice, g_ice = ice, 0.0
            energy -= ls * e_ice
        else:
            break
    if g_liquid > 0.0:
        e_liquid = g_liquid * drive
    if g_ice > 0.0:
        e_ice = g_ice * drive
    return rise, g_leaf * drive, e_liquid, e_ice


@njit(cache=True, error_model="numpy")
def _suction(content, pore, soil):
    """Return soil suction [mm] at `content` of a layer with `pore` mm of pore space."""
    return soil.suction * max(content / pore, 1e-3) ** -soil.b


@njit(cache=True, error_model="numpy")
def _openness(suction, smpso, smpsc):
    """Return 1 at and above the potential of full opening, 0 at closure (potentials negative, mm)."""
    return min(max((-suction - smpsc) / (smpso - smpsc), 0.0), 1.0)


@njit(cache=True, error_model="numpy")
def _gravity_drainage(content, pore, soil):
    """Return mm that leave a layer in a step: exact solution of dW/dt = -K(W), Clapp & Hornberger."""
    n = 2.0 * soil.b + 2.0
    rate = n * soil.conductivity * STEP / pore
    wetness = min(content / pore, 1.0)
    k = wetness**n
    if rate * k < 1e-9:
        return 0.0
    return content - pore * wetness * (1.0 + rate * k) ** (-1.0 / n) if content <= pore else 0.0


@njit(cache=True, error_model="numpy")
def _capillary_rise(top, deep, psi_top, psi_deep, soil):
    """Return mm that suction lifts into the upper layer in a step, at most what equalises the suctions.

    Darcy flow against gravity with the geometric mean of the layers' conductivities.
    """
    gradient = (psi_top - psi_deep) / soil.distance - 1.0
    if gradient <= 0.0:
        return 0.0
    k = soil.conductivity * (psi_top * psi_deep / soil.suction**2) ** (-(soil.b + 1.5) / soil.b)
    even = (deep * soil.top - top * soil.deep) / (soil.top + soil.deep)
    return max(min(k * gradient * STEP, even), 0.0)


@njit(cache=True, error_model="numpy")
def _soil_resistance(top, soil, d_max, diffusivity):
    """Return the dry surface layer's resistance [s m-1]: Swenson & Lawrence 2014 (CLM5, 2.5.66-74)."""
    start = 0.8 * soil.top
    if top >= start:
        return 0.0
    thickness = 1e-3 * d_max * min((start - top) / (start - soil.dry), 1.0)
    air = soil.porosity * (soil.dry / soil.top)
    tortuosity = (soil.porosity - air) ** 2 * ((soil.porosity - air) / soil.porosity) ** (3.0 / soil.b)
    return thickness / (diffusivity * tortuosity)


@njit(cache=True, error_model="numpy")
def _photosynthesis(d, w, t, decayed, btran, capacity, gb):
    """Return assimilation of the canopy [umol m-2 s-1], conductance of sunlit and of shaded leaves [m s-1].

    Both kinds of leaves while the sun is up, dark leaves for the rest of the step. Nitrogen falls with depth
    as exp(-kn L); vcmax25 is integrated over either kind (de Pury & Farquhar 1997). Water stress acts as in
    FATES, on vcmax and the intercept.
    """
    kn, g0 = t.kn, max(t.g0 * btran, 1e-6)
    lai, sun_lai, daylight, molar = w.lai, w.sun_lai, d.daylight, d.molar
    g_dark = g0 / molar
    if daylight <= 0.0 or lai - sun_lai <= 1e-9:
        return 0.0, g_dark, g_dark
    top25 = t.vcmax * capacity
    lit = w.decay + kn
    sun25 = top25 * w.clumping * (1.0 - decayed * exp(-w.decay * lai)) / lit
    shade25 = max(top25 * (1.0 - decayed) / kn - sun25, 0.0)
    a_sun, g_sun = _leaves(d, w.sun_par, sun25 / sun_lai, btran, gb, t, g0)
    a_shade, g_shade = _leaves(d, w.shade_par, shade25 / (lai - sun_lai), btran, gb, t, g0)
    night = (1.0 - daylight) * g_dark
    total = daylight * (sun_lai * a_sun + (lai - sun_lai) * a_shade)
    return total, daylight * g_sun / molar + night, daylight * g_shade / molar + night


@njit(cache=True, error_model="numpy")
def _leaves(d, par, vcmax25, btran, gb, t, g0):
    """Return `leaf` at the step's air temperature for a rate at 25 degC per leaf area."""
    humidity = 1.0 - d.deficit / d.saturation
    return leaf(
        t.quantum * par, vcmax25 * d.f_vcmax * btran, vcmax25 * d.f_jmax, vcmax25 * d.f_rd * btran,
        d.gamma, d.km, CO2 * d.pressure, d.pressure, gb * d.molar, g0, t.slope, humidity,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def _stability(buoyancy, rise):
    """Return the factor on a neutral aerodynamic conductance: Choudhury et al. 1986.

    Surfaces colder than air by much decouple, but never wholly.
    """
    instability = min(max(buoyancy * rise, LEAST_STABLE), MOST_STABLE)
    if instability > 0.0:
        return sqrt(sqrt((1.0 + instability) ** 3))
    return (1.0 + instability) ** 2


@njit(cache=True, error_model="numpy")
def _ground(d, column, energy, g_ground, dry):
    """Return `ground_balance` for an aerodynamic conductance; snow and bare soil share one temperature."""
    return ground_balance(
        energy, d.rho_cp * g_ground + d.radiative + column.g_heat,
        d.kappa * (1.0 - column.white) / (1.0 / g_ground + column.r_soil), d.kappa * column.white * g_ground,
        d.deficit, d.slope, max(column.top - dry, 0.0) / STEP, column.snow / STEP,
        d.vaporization, d.vaporization + FUSION, ZERO - d.tair,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _patch(d, w, t, column, capacity, decayed, dry, p, liquid, ice):
    """Return the fluxes of type `p` in a step; changes its stores `liquid` and `ice`.

    `d`, `w`, `t`: the step's weather (`drivers.STEP_DRIVERS`), the type's leaves and light
    (`drivers.TYPE_DRIVERS`) and the type's traits (`TRAITS`).
    """
    tair, kappa, deficit, slope, rho_cp = d.tair, d.kappa, d.deficit, d.slope, d.rho_cp
    lv, ls = d.vaporization, d.vaporization + FUSION
    plant, sky, radiative = w.plant, w.sky, d.radiative
    open_top = t.root_top * _openness(column.psi_top, t.smpso, t.smpsc)
    open_deep = (1.0 - t.root_top) * _openness(column.psi_deep, t.smpso, t.smpsc)
    u_star = t.drag * d.wind
    gb = t.ventilation * sqrt(d.wind)
    gross, g_sun, g_shade = _photosynthesis(d, w, t, decayed, open_top + open_deep, capacity, gb)
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


@njit(cache=True, error_model="numpy")
def _column(d, soil, d_max, snow, top, deep, t_soil):
    """Return the shared state at the beginning of a step."""
    white = snow / (snow + SNOW_COVER)
    insulation = 0.5 * SOIL_HEAT_DEPTH / SOIL_CONDUCTIVITY + snow / (SNOW_DENSITY * SNOW_CONDUCTIVITY)
    return Column(
        snow, top, t_soil, _suction(top, soil.top, soil), _suction(deep, soil.deep, soil), white,
        SOIL_ALBEDO + (SNOW_ALBEDO - SOIL_ALBEDO) * white, 1.0 / insulation,
        _soil_resistance(top, soil, d_max, d.vapour_diffusivity),
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _soil_water(top, deep, lifted, soil):
    """Return both layers [mm] after runoff, capillary rise and drainage, and what has left the soil."""
    top += lifted
    deep -= lifted
    runoff = max(top - soil.top, 0.0)
    top -= runoff
    percolated = min(_gravity_drainage(top, soil.top, soil), max(soil.deep - deep, 0.0))
    top -= percolated
    deep += percolated
    drained = _gravity_drainage(deep, soil.deep, soil)
    return top, deep - drained, runoff + drained


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
        lifted = _capillary_rise(top, deep, column.psi_top, column.psi_deep, soil)
        top, deep, lost = _soil_water(top, deep, lifted, soil)
        error = before + d.rain + d.snow - evaporated - lost - (snow + top + deep)
        ledger[0], ledger[1] = max(ledger[0], abs(imbalance)), max(ledger[1], abs(error))
        if (k + 1) % STEPS_PER_DAY == 0:
            if k >= n_spin:
                day = (k - n_spin) // STEPS_PER_DAY
                for j in range(N_DAILY):
                    out[day, j] = flux[j] / STEPS_PER_DAY
                out[day, 8], out[day, 9] = snow, top + deep
            flux[:] = 0.0
