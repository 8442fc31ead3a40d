"""What a type of plants is in the equations: its parameters as they are used."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array
from fatescal.models.canopy.drivers import REFERENCE_HEIGHT
from fatescal.models.canopy.soil_water import (
    TOP_DEPTH,
)
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.thermo import KARMAN
from fatescal.models.canopy.weather import STEP

LEAF_TRANSFER = 0.01  # m s-1/2, CLM5 cv
ROOT_A, ROOT_B = np.array([7.0, 6.0, 11.0]), np.array([2.0, 2.0, 2.0])  # m-1, fates_allom_fnrt_prof_a, _b
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
