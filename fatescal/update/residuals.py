"""Whitened residuals of the survivors: all that any scheme takes from predictions and observations."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array
from fatescal.storage.records import Observations

CHUNK = 2**20  # numbers whitened at once, 8 MB


def whitened_residuals(predictions: Array, obs: Observations, alive: Array) -> Array:
    """Return R^(-1/2) (y - G_j) (J', D) of the rows of `predictions` (J, D) where `alive` (J).

    The one copy of the predictions an update makes. Its mean row is the innovation y - gbar, its
    anomalies are those of the whitened predictions with the sign turned.
    """
    rows = np.flatnonzero(alive)
    residuals = np.empty((len(rows), len(obs)))
    at_once = max(1, CHUNK // len(obs))
    for start in range(0, len(rows), at_once):
        chunk = slice(start, start + at_once)
        residuals[chunk] = obs.whiten(obs.y - predictions[rows[chunk]])
    return residuals


def misfit(residuals: Array) -> Array:
    """Return Phi_j = 1/2 |r_j|^2 (J) of whitened `residuals` (J, D)."""
    return 0.5 * np.einsum("jd,jd->j", residuals, residuals)
