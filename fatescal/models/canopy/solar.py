"""Where the sun stands, averaged over the time steps."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array

SOLAR_CONSTANT = 1361.0  # W m-2, Kopp & Lean 2011
_SAMPLES = 24  # per step: 7.5 minutes apart


def solar_geometry(n_days: int, steps_per_day: int, latitude: float, longitude: float) -> dict[str, Array]:
    """Return the sun's course over days starting on a 1 January (noleap), time steps in UTC.

    Returns
    -------
    dict of array (n_days * steps_per_day)
        ``cosine``: mean cosine of the zenith angle while the sun is up [1]; ``daylight``: share of the
        step with the sun up [1]; ``toa``: mean radiation on a horizontal plane above the
        atmosphere [W m-2].

    Notes
    -----
    Declination, distance and equation of time after Spencer (1971).

    >>> sun = solar_geometry(365, 8, 61.85, 24.3)
    >>> noon = sun["cosine"].reshape(365, 8).max(axis=1)
    >>> bool(abs(noon[171] - np.cos(np.deg2rad(61.85 - 23.45))) < 0.02)
    True
    """
    day = np.arange(n_days)[:, None]
    hour = (np.arange(steps_per_day * _SAMPLES) + 0.5) * 24.0 / (steps_per_day * _SAMPLES)
    a = 2 * np.pi * (day + hour / 24.0 - 0.5) / 365.0
    declination = (
        0.006918
        - 0.399912 * np.cos(a) + 0.070257 * np.sin(a)
        - 0.006758 * np.cos(2 * a) + 0.000907 * np.sin(2 * a)
        - 0.002697 * np.cos(3 * a) + 0.00148 * np.sin(3 * a)
    )  # fmt: skip
    distance = 1.00011 + 0.034221 * np.cos(a) + 0.00128 * np.sin(a) + 0.000719 * np.cos(2 * a)
    equation = 229.18 * (
        0.000075 + 0.001868 * np.cos(a) - 0.032077 * np.sin(a) - 0.014615 * np.cos(2 * a)
        - 0.040849 * np.sin(2 * a)
    )  # fmt: skip
    angle = np.deg2rad(15.0 * (hour + longitude / 15.0 + equation / 60.0 - 12.0))
    phi = np.deg2rad(latitude)
    cosine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(angle)
    up = np.maximum(cosine, 0.0).reshape(-1, _SAMPLES)
    daylight = (up > 0).mean(axis=1)
    toa = (SOLAR_CONSTANT * distance * np.maximum(cosine, 0.0)).reshape(-1, _SAMPLES).mean(axis=1)
    return {
        "cosine": up.mean(axis=1) / np.maximum(daylight, 1e-12),
        "daylight": daylight,
        "toa": toa,
    }
