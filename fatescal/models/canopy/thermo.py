"""Constants of nature and the thermodynamics of moist air (Bolton 1980; Alduchov & Eskridge 1996)."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array

ZERO = 273.15  # K, 0 degC and the melting point
STEFAN_BOLTZMANN = 5.670374e-8  # W m-2 K-4
GAS = 8.314463  # J mol-1 K-1
DRY_AIR = 287.04  # J kg-1 K-1
HEAT_CAPACITY = 1004.64  # J kg-1 K-1, dry air at constant pressure (CLM5)
FUSION = 3.337e5  # J kg-1 (CLM5)
GRAVITY = 9.80616  # m s-2
KARMAN = 0.4
EMISSIVITY = 0.97  # of leaves and ground (CLM5)


def saturation_pressure(temperature: Array) -> Array:
    """Return saturation vapour pressure [Pa] at K; over ice below 0 degC.

    >>> [round(float(saturation_pressure(273.15 + t))) for t in (-20, 0, 20)]
    [103, 611, 2334]
    """
    a, b = _magnus(temperature)
    celsius = temperature - ZERO
    return 611.0 * np.exp(a * celsius / (b + celsius))


def saturation_slope(temperature: Array) -> Array:
    """Return d(saturation pressure)/dT [Pa K-1] at K."""
    a, b = _magnus(temperature)
    return saturation_pressure(temperature) * a * b / (b + temperature - ZERO) ** 2


def _magnus(temperature: Array) -> tuple[Array, Array]:
    warm = np.asarray(temperature) >= ZERO
    return np.where(warm, 17.625, 22.587), np.where(warm, 243.04, 273.86)


def vaporization_heat(temperature: Array) -> Array:
    """Return the latent heat of vaporization of water [J kg-1] at K."""
    return 2.501e6 - 2361.0 * (temperature - ZERO)
