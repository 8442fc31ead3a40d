"""Water in the soil's two layers, compiled by numba."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.weather import STEP

TOP_DEPTH = 0.1  # m, the soil layer that evaporates
AIR_DRY = 1e7  # mm, suction of air-dry soil (CLM5)


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


@njit(error_model="numpy")
def suction_of(content, pore, soil):
    """Return soil suction [mm] at `content` of a layer with `pore` mm of pore space."""
    return soil.suction * max(content / pore, 1e-3) ** -soil.b


@njit(error_model="numpy")
def openness(suction, smpso, smpsc):
    """Return 1 at and above the potential of full opening, 0 at closure (potentials negative, mm)."""
    return min(max((-suction - smpsc) / (smpso - smpsc), 0.0), 1.0)


@njit(error_model="numpy")
def _gravity_drainage(content, pore, soil):
    """Return mm that leave a layer in a step: exact solution of dW/dt = -K(W), Clapp & Hornberger."""
    n = 2.0 * soil.b + 2.0
    rate = n * soil.conductivity * STEP / pore
    wetness = min(content / pore, 1.0)
    k = wetness**n
    if rate * k < 1e-9:
        return 0.0
    return content - pore * wetness * (1.0 + rate * k) ** (-1.0 / n) if content <= pore else 0.0


@njit(error_model="numpy")
def capillary_rise(top, deep, psi_top, psi_deep, soil):
    """Return mm that suction lifts into the upper layer in a step, at most what equalises the suctions.

    Darcy flow against gravity with the geometric mean of the layers' conductivities.
    """
    gradient = (psi_top - psi_deep) / soil.distance - 1.0
    if gradient <= 0.0:
        return 0.0
    k = soil.conductivity * (psi_top * psi_deep / soil.suction**2) ** (-(soil.b + 1.5) / soil.b)
    even = (deep * soil.top - top * soil.deep) / (soil.top + soil.deep)
    return max(min(k * gradient * STEP, even), 0.0)


@njit(error_model="numpy")
def soil_resistance(top, soil, d_max, diffusivity):
    """Return the dry surface layer's resistance [s m-1]: Swenson & Lawrence 2014 (CLM5, 2.5.66-74)."""
    start = 0.8 * soil.top
    if top >= start:
        return 0.0
    thickness = 1e-3 * d_max * min((start - top) / (start - soil.dry), 1.0)
    air = soil.porosity * (soil.dry / soil.top)
    tortuosity = (soil.porosity - air) ** 2 * ((soil.porosity - air) / soil.porosity) ** (3.0 / soil.b)
    return thickness / (diffusivity * tortuosity)


@njit(error_model="numpy")
def redistributed(top, deep, lifted, soil):
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
