"""One member through all time steps: the physics that parameters touch, compiled by numba.

All compiled code stands in this one file, because numba's cache on disk only watches the file of the
function it starts from. Members are computed one after the other by scalar code: a member's bits cannot
depend on its batch mates. Conductances in m s-1, fluxes per ground area unless said otherwise.

Per step: stomata and photosynthesis of sunlit and shaded leaves at air temperature, then the energy
balance of ground and canopy of every plant functional type, linearised at air temperature (Penman-Monteith),
then snow and soil water, which the types share.
"""

from __future__ import annotations

from math import exp, log, sqrt, tanh
from typing import NamedTuple

import numpy as np
from numba import njit

from fatescal.forward.canopy.drivers import CO2, REFERENCE_HEIGHT
from fatescal.forward.canopy.site import Site
from fatescal.forward.canopy.thermo import FUSION, KARMAN, ZERO
from fatescal.forward.canopy.weather import STEP, STEPS_PER_DAY
from fatescal.records import Array

DAILY = (
    "gpp",  # kg C m-2 s-1
    "evaporation",  # kg m-2 s-1, all of it
    "transpiration",  # kg m-2 s-1
    "interception",  # kg m-2 s-1, evaporation of rain and snow from the canopy
    "ground",  # kg m-2 s-1, evaporation and sublimation of soil and snow
    "sensible",  # W m-2
    "net_radiation",  # W m-2
    "snow",  # mm, at the end of the day
    "soil_water",  # mm, at the end of the day
    "stress",  # 1, water stress of the first type (1 none)
)
N_DAILY = len(DAILY)

CARBON = 12.011e-9  # kg C per umol
THETA_PSII = 0.7  # curvature of electron transport (CLM5)
THETA_CJ = 0.98  # curvature of co-limitation (CLM5)
QUANTUM = 0.5 * (1 - 0.15)  # electrons per absorbed photon, 0.15 lost to other pigments (CLM5 fnps)
LEAF_TRANSFER = 0.01  # m s-1/2, CLM5 cv
SOIL_ALBEDO, SNOW_ALBEDO = 0.12, 0.65  # broadband; snow under trees is old and littered (Essery et al. 2009)
SNOW_COVER = 10.0  # mm of water at which half of the ground is white
SNOW_DENSITY, SNOW_CONDUCTIVITY = 250.0, 0.2  # kg m-3, W m-1 K-1 (Sturm et al. 1997)
SOIL_CONDUCTIVITY = 1.2  # W m-1 K-1
SOIL_HEAT_DEPTH, SOIL_HEAT_CAPACITY = 0.5, 2.3e6  # m, J m-3 K-1, the slab that stores heat
TOP_DEPTH = 0.1  # m, the soil layer that evaporates
AIR_DRY = 1e7  # mm, suction of air-dry soil (CLM5)
MELT_UNLOAD, WIND_UNLOAD = 1.87e5, 1.56e5 / 0.5  # K s, m: unloading of snow (Roesch et al. 2001; CLM5)
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
    root_top: Array  # (F) share of the roots in the upper layer
    share: Array  # (F)
    height: Array  # (F) m


def soil_of(site: Site) -> Soil:
    """Return the soil constants of a site; roots after FATES (fates_allom_fnrt_prof_a, _b)."""
    porosity = 0.489 - 0.00126 * site.sand
    suction = 10.0 * 10 ** (1.88 - 0.0131 * site.sand)
    b = 2.91 + 0.159 * site.clay
    a_root, b_root = np.array([7.0, 6.0, 11.0]), np.array([2.0, 2.0, 2.0])
    return Soil(
        porosity=porosity,
        suction=suction,
        b=b,
        conductivity=0.0070556 * 10 ** (-0.884 + 0.0153 * site.sand),
        top=porosity * TOP_DEPTH * 1e3,
        deep=porosity * (site.bedrock - TOP_DEPTH) * 1e3,
        distance=site.bedrock / 2 * 1e3,
        dry=porosity * TOP_DEPTH * 1e3 * (AIR_DRY / suction) ** (-1 / b),
        root_top=1 - 0.5 * (np.exp(-a_root * TOP_DEPTH) + np.exp(-b_root * TOP_DEPTH)),
        share=site.share / site.share.sum(),
        height=site.height,
    )


@njit(cache=True, error_model="numpy")
def assimilation(ci, vcmax, electrons, gamma, km):
    """Return gross assimilation [umol m-2 s-1] at `ci` [Pa]: Farquhar et al. 1980, co-limited (Collatz 1991)."""
    rubisco = vcmax * (ci - gamma) / (ci + km)
    light = electrons * (ci - gamma) / (4 * ci + 8 * gamma)
    both = rubisco + light
    if ci <= gamma:
        return max(rubisco, light)
    return (both - sqrt(both * both - 4 * THETA_CJ * rubisco * light)) / (2 * THETA_CJ)


@njit(cache=True, error_model="numpy")
def conductance(net, ca, pressure, gb, g0, m, humidity):
    """Return stomatal conductance to water [mol m-2 s-1]: Ball et al. 1987 with the humidity at the leaf surface.

    `humidity` is the air's vapour pressure over saturation at leaf temperature; `gb` [mol m-2 s-1] couples the
    surface to the air: g^2 + g (gb - g0 - k) - gb (g0 + k humidity) = 0, k = m A P / c_s.
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
def leaf(par, vcmax, jmax, rd, gamma, km, ca, pressure, gb, g0, m, humidity):
    """Return gross assimilation [umol m-2 s-1] and stomatal conductance [mol m-2 s-1] of a leaf.

    Secant steps on ci inside a bracket; the first guess is exact where `g0` and 1/gb vanish,
    so that three or four evaluations reach 1e-6 Pa.
    """
    photons = QUANTUM * par
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
def ground_balance(energy, conducting, g_soil, g_snow, d_soil, d_snow, slope, water, snow, lv, ls, melting):
    """Return temperature rise over the air [K], soil evaporation, sublimation, melt [kg m-2 s-1] of the ground.

    Solves energy - conducting dT = lv E + ls S + Lf M with E = g_soil (d_soil + slope dT), S likewise.
    `water` and `snow` [kg m-2 s-1] bound E and S + M; `melting` is the dT of 0 degC: snow is never warmer.
    """
    sublimated = melt = dried = 0.0
    for _ in range(3):
        rise = (energy - lv * g_soil * d_soil - ls * g_snow * d_snow) / (
            conducting + (lv * g_soil + ls * g_snow) * slope
        )
        if snow > 0.0 and rise > melting:
            excess = (rise - melting) * (conducting + (lv * g_soil + ls * g_snow) * slope) / FUSION
            loss = g_snow * (d_snow + slope * melting)
            if excess + loss <= snow and loss <= snow:
                rise, melt, sublimated = melting, excess, loss
            else:  # the last snow goes: what it takes is known, the bare ground has the rest
                sublimated = min(loss, snow)
                melt = snow - sublimated
                energy -= ls * sublimated + FUSION * melt
                snow, g_snow = 0.0, 0.0
                continue
        elif g_snow > 0.0:
            loss = g_snow * (d_snow + slope * rise)
            if loss > snow:
                sublimated = snow
                energy -= ls * sublimated
                snow, g_snow = 0.0, 0.0
                continue
            sublimated = loss
        loss = g_soil * (d_soil + slope * rise)
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
def _suction_factor(content, pore, soil):
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
    """Return the dry surface layer's resistance [s m-1]: Swenson & Lawrence 2014 (CLM5, eqs 2.5.66-2.5.74)."""
    start = 0.8 * soil.top
    if top >= start:
        return 0.0
    thickness = 1e-3 * d_max * min((start - top) / (start - soil.dry), 1.0)
    air = soil.porosity * (soil.dry / soil.top)
    tortuosity = (soil.porosity - air) ** 2 * ((soil.porosity - air) / soil.porosity) ** (3.0 / soil.b)
    return thickness / (diffusivity * tortuosity)


@njit(cache=True, error_model="numpy")
def _photosynthesis(i, p, d, vcmax, decayed, kn, m, g0, btran, capacity, gb):
    """Return canopy assimilation [umol m-2 s-1] and stomatal conductance of sunlit and shaded leaves [mol m-2 s-1].

    Sunlit and shaded leaves of type `p` while the sun is up, dark leaves for the rest of the step.
    Nitrogen falls with depth as exp(-kn L); vcmax25 integrated over either class (de Pury & Farquhar 1997).
    """
    g0 = max(g0 * btran, 1e-6)
    lai, sun_lai, daylight = d.lai[i, p], d.sun_lai[i, p], d.daylight[i]
    shade_lai = lai - sun_lai
    if daylight <= 0.0 or shade_lai <= 1e-9:
        return 0.0, g0, g0
    lit = d.decay[i, p] + kn
    top25 = vcmax * capacity
    sun25 = top25 * d.clumping[p] * (1.0 - decayed * exp(-d.decay[i, p] * lai)) / lit
    all25 = top25 * (1.0 - decayed) / kn
    humidity = 1.0 - d.deficit[i] / d.saturation[i]
    total = 0.0
    g_sun = g_shade = g0
    for sunlit in range(2):
        area = sun_lai if sunlit == 1 else shade_lai
        v25 = (sun25 if sunlit == 1 else max(all25 - sun25, 0.0)) / area
        a, g = leaf(
            d.sun_par[i, p] if sunlit == 1 else d.shade_par[i, p],
            v25 * d.f_vcmax[i] * btran, v25 * d.f_jmax[i], v25 * d.f_rd[i] * btran,
            d.gamma[i], d.km[i], CO2 * d.pressure[i], d.pressure[i], gb * d.molar[i], g0, m, humidity,
        )  # fmt: skip
        total += area * a
        g = daylight * g + (1.0 - daylight) * g0
        if sunlit == 1:
            g_sun = g
        else:
            g_shade = g
    return daylight * total, g_sun, g_shade


@njit(cache=True, error_model="numpy")
def run_member(pft, column, d, soil, order, n_spin, out, ledger):
    """Run one member over the driver steps `order`, the first `n_spin` of them unrecorded.

    Parameters
    ----------
    pft, column : arrays (7, F), (8)
        Parameters in the order of `parameters.PFT_PARAMETERS` and `COLUMN_PARAMETERS`.
    out : array (days, N_DAILY)
        Filled with daily means, columns as in `DAILY`.
    ledger : array (2)
        Filled with the largest imbalance of any step: energy [W m-2], water [mm].
    """
    vcmax, slope_bb, intercept, smpso, smpsc, z0mr, leaf_size = pft
    recovery_time, recovery_start, recovery_range, csoilc, d_max, wettable, hold_liquid, hold_snow = column
    n_pft = len(soil.share)
    memory = exp(-STEP / (86400.0 * recovery_time))
    drag, kn, bare_drag = np.empty(n_pft), np.empty(n_pft), np.empty(n_pft)
    for p in range(n_pft):
        drag[p] = KARMAN / log(REFERENCE_HEIGHT / (z0mr[p] * soil.height[p]))
        kn[p] = exp(0.00963 * vcmax[p] - 2.43)  # Lloyd et al. 2010, as in FATES
        # drag of bare ground, CLM5 eq. 2.5.121 with 1 cm of roughness: k/0.13 (0.01 u*/1.5e-5)^-0.45 u*
        bare_drag[p] = KARMAN / 0.13 * (0.01 / 1.5e-5) ** -0.45 * drag[p] ** 0.55
    liquid, ice, decayed = np.zeros(n_pft), np.zeros(n_pft), np.zeros(n_pft)
    flux = np.zeros(N_DAILY)
    snow, top, deep = 0.0, 0.7 * soil.top, 0.7 * soil.deep
    t_soil, warmth = 277.0, d.tair[order[0]] - ZERO

    for k in range(len(order)):
        i = order[k]
        tair, kappa, deficit, slope = d.tair[i], d.kappa[i], d.deficit[i], d.slope[i]
        lv, ls, rho_cp = d.vaporization[i], d.vaporization[i] + FUSION, d.rho_cp[i]
        warmth = memory * warmth + (1.0 - memory) * (tair - ZERO)
        capacity = min(max((warmth - recovery_start) / recovery_range, 0.02), 1.0)
        psi_top, psi_deep = _suction_factor(top, soil.top, soil), _suction_factor(deep, soil.deep, soil)
        white = snow / (snow + SNOW_COVER)
        albedo = SOIL_ALBEDO + (SNOW_ALBEDO - SOIL_ALBEDO) * white
        g_heat = 1.0 / (
            0.5 * SOIL_HEAT_DEPTH / SOIL_CONDUCTIVITY + snow / (SNOW_DENSITY * SNOW_CONDUCTIVITY)
        )
        r_soil = _soil_resistance(top, soil, d_max, d.vapour_diffusivity[i])
        stored = snow + top + deep
        to_soil = heat = taken_top = taken_deep = snow_change = imbalance = 0.0
        evaporated = 0.0
        for p in range(n_pft):
            share, plant, sky = soil.share[p], d.plant[i, p], d.sky[i, p]
            if k % STEPS_PER_DAY == 0:
                decayed[p] = exp(-kn[p] * d.lai[i, p])
            open_top = soil.root_top[p] * _openness(psi_top, smpso[p], smpsc[p])
            open_deep = (1.0 - soil.root_top[p]) * _openness(psi_deep, smpso[p], smpsc[p])
            btran = open_top + open_deep
            u_star = drag[p] * d.wind[i]
            gb = LEAF_TRANSFER * sqrt(u_star / leaf_size[p])
            gross, g_sun, g_shade = _photosynthesis(
                i, p, d, vcmax[p], decayed[p], kn[p], slope_bb[p], 1e-6 * intercept[p], btran,
                capacity if p == 0 else 1.0, gb,
            )  # fmt: skip

            # precipitation on the canopy, snow falling off it (CLM5, eqs 2.7.4-2.7.14)
            stored += share * (liquid[p] + ice[p])
            room_liquid, room_ice = hold_liquid * plant, hold_snow * plant
            caught = min(d.rain[i] * tanh(plant), max(room_liquid - liquid[p], 0.0))
            caught_snow = min(d.snow[i] * (1.0 - exp(-0.5 * plant)), max(room_ice - ice[p], 0.0))
            liquid[p] += caught
            ice[p] += caught_snow
            loose = (max(tair - 270.15, 0.0) / MELT_UNLOAD + d.wind[i] / WIND_UNLOAD) * STEP
            fallen = ice[p] * loose / (1.0 + loose)
            drip = max(liquid[p] - room_liquid, 0.0)  # leaves have fallen
            liquid[p] -= drip
            ice[p] -= fallen
            wet = wettable * min(np.cbrt(liquid[p] / room_liquid) ** 2, 1.0)
            covered = min(np.cbrt(ice[p] / room_ice) ** 2, 1.0)

            # aerodynamic conductance, corrected for stability with the neutral canopy's temperature
            g_sun, g_shade = g_sun / d.molar[i], g_shade / d.molar[i]
            dry = 1.0 - min(wet + covered, 1.0)
            g_leaf = dry * gb * (
                d.sun_lai[i, p] * g_sun / (gb + g_sun)
                + (d.lai[i, p] - d.sun_lai[i, p]) * g_shade / (gb + g_shade)
            )  # fmt: skip
            g_liquid, g_ice, g_plant = wet * gb * plant, covered * gb * plant, gb * plant
            g_total = g_leaf + g_liquid + g_ice
            ga = drag[p] * u_star
            sw_ground = d.sw_ground[i, p] * (1.0 - albedo)
            sw_canopy = d.sw_canopy[i, p] + d.sw_ground[i, p] * albedo * d.underside[i, p]
            energy = sw_canopy + (1.0 - sky) * d.longwave[i]
            conducting = rho_cp * ga * g_plant / (ga + g_plant) + (1.0 - sky) * d.radiative[i]
            vapour = kappa * lv * g_total * ga / (ga + g_total)
            rise = (energy - vapour * deficit) / (conducting + vapour * slope)
            unstable = min(max(d.buoyancy[i] * rise, LEAST_STABLE), MOST_STABLE)
            ga *= sqrt(sqrt((1.0 + unstable) ** 3)) if unstable > 0.0 else (1.0 + unstable) ** 2

            # ground below: exchanges long-wave with sky and canopy, both near air temperature
            bare = exp(-plant)
            under = bare * bare_drag[p] * d.wind055[i] + (1.0 - bare) * csoilc * u_star
            g_ground = ga * under / (ga + under)
            g_earth = kappa * (1.0 - white) / (1.0 / g_ground + r_soil)
            conducting_ground = rho_cp * g_ground + d.radiative[i] + g_heat
            rise_ground, e_soil, e_snow, melt = ground_balance(
                sw_ground + sky * d.longwave[i] + g_heat * (t_soil - tair), conducting_ground,
                g_earth, kappa * white * g_ground, deficit, deficit, slope,
                max(top - soil.dry, 0.0) / STEP, snow / STEP, lv, ls, ZERO - tair,
            )  # fmt: skip
            ground_heat = g_heat * (rise_ground + tair - t_soil)
            upward = (1.0 - sky) * d.radiative[i] * rise_ground  # from ground to canopy

            # canopy above
            energy += upward
            conducting = rho_cp * ga * g_plant / (ga + g_plant) + (1.0 - sky) * d.radiative[i]
            series = kappa * ga / (ga + g_total)
            rise, transpired, e_liquid, e_ice = canopy_balance(
                energy, conducting, series * g_leaf, series * g_liquid, series * g_ice,
                deficit, slope, liquid[p] / STEP, ice[p] / STEP, lv, ls,
            )  # fmt: skip
            if deficit + slope * rise < 0.0:  # dew or rime settles on the whole plant
                frost = tair < ZERO
                g_dew = kappa * ga * g_plant / (ga + g_plant)
                rise, transpired, e_liquid, e_ice = canopy_balance(
                    energy, conducting, 0.0, 0.0 if frost else g_dew, g_dew if frost else 0.0,
                    deficit, slope, liquid[p] / STEP, ice[p] / STEP, lv, ls,
                )  # fmt: skip
            liquid[p] -= e_liquid * STEP
            ice[p] -= e_ice * STEP

            # books of this type
            sensible = rho_cp * (ga * g_plant / (ga + g_plant) * rise + g_ground * rise_ground)
            net = (
                d.sw_canopy[i, p] + d.sw_ground[i, p] * (1.0 - albedo * (1.0 - d.underside[i, p]))
                + d.longwave[i] - d.radiative[i] * ((1.0 - sky) * rise + sky * rise_ground)
            )  # fmt: skip
            latent = lv * (transpired + e_liquid + e_soil) + ls * (e_ice + e_snow)
            imbalance += share * (net - sensible - latent - ground_heat - FUSION * melt)
            heat += share * ground_heat
            to_soil += share * (d.rain[i] - caught + drip + melt * STEP)
            snow_change += share * (d.snow[i] - caught_snow + fallen - (melt + e_snow) * STEP)
            if btran > 0.0:
                taken_top += share * transpired * open_top / btran * STEP
                taken_deep += share * transpired * open_deep / btran * STEP
            else:
                taken_deep += share * transpired * STEP
            taken_top += share * e_soil * STEP
            intercepted = e_liquid + e_ice
            evaporated += share * (transpired + intercepted + e_soil + e_snow)
            flux[0] += share * gross * CARBON
            flux[2] += share * transpired
            flux[3] += share * intercepted
            flux[4] += share * (e_soil + e_snow)
            flux[5] += share * sensible
            flux[6] += share * net
            stored -= share * (liquid[p] + ice[p])
            if p == 0:
                flux[9] += btran
        flux[1] += evaporated

        # snow and soil water
        lifted = _capillary_rise(top, deep, psi_top, psi_deep, soil)
        snow = max(snow + snow_change, 0.0)
        t_soil += heat * STEP / (SOIL_HEAT_DEPTH * SOIL_HEAT_CAPACITY)
        top += to_soil - taken_top + lifted
        deep -= taken_deep + lifted
        runoff = max(top - soil.top, 0.0)
        top -= runoff
        percolated = min(_gravity_drainage(top, soil.top, soil), max(soil.deep - deep, 0.0))
        top -= percolated
        deep += percolated
        drained = _gravity_drainage(deep, soil.deep, soil)
        deep -= drained
        stored += d.rain[i] + d.snow[i] - evaporated * STEP - runoff - drained - (snow + top + deep)
        ledger[0] = max(ledger[0], abs(imbalance))
        ledger[1] = max(ledger[1], abs(stored))
        if (k + 1) % STEPS_PER_DAY == 0:
            if k >= n_spin:
                day = (k - n_spin) // STEPS_PER_DAY
                for j in range(N_DAILY):
                    out[day, j] = flux[j] / STEPS_PER_DAY
                out[day, 7] = snow
                out[day, 8] = top + deep
            flux[:] = 0.0
