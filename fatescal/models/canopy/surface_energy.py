"""Energy balances of ground and canopy, linearised at air temperature, compiled by numba."""

from __future__ import annotations

from numba import njit

from fatescal.models.canopy.thermo import FUSION


@njit(error_model="numpy")
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


@njit(error_model="numpy")
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
