"""Sensitivities regressed on the ensemble, in coordinates in which the prior members are standard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from fatescal.base.linalg import centred
from fatescal.base.types import Array


@dataclass(frozen=True, eq=False)
class StandardPrior:
    """Coordinates z = (u - x0) F^-1 in which the members' mean is 0 and their sample covariance I.

    >>> prior = StandardPrior.of(np.random.default_rng(0).normal(3, 2, (9, 2)))
    >>> z = prior.members
    >>> bool(np.allclose(z.mean(axis=0), 0)), bool(np.allclose(z.T @ z / 8, np.eye(2)))
    (True, True)
    >>> bool(np.allclose(prior.coordinates(prior.parameters(z + 1)), z + 1))
    True
    """

    mean: Array  # x0 (P)
    members: Array  # Z (J, P)
    factor: Array  # F (P, P)

    @classmethod
    def of(cls, u0: Array) -> Self:
        """Return the coordinates that standardise the prior ensemble `u0` (J, P), J > P."""
        mean, anomalies = centred(u0)
        left, singular, right = np.linalg.svd(anomalies, full_matrices=False)
        root = np.sqrt(len(u0) - 1)
        return cls(mean, root * left, singular[:, None] / root * right)

    def coordinates(self, u: Array) -> Array:
        """Return z (M, P) of `u` (M, P)."""
        return np.linalg.solve(self.factor.T, (u - self.mean).T).T

    def parameters(self, z: Array) -> Array:
        """Return u (M, P) of `z` (M, P)."""
        return self.mean + z @ self.factor


def sensitivities(anomalies: Array, residuals: Array) -> Array:
    """Return dG/dz (P, D), the predictions regressed on the members' `anomalies` (J, P).

    `residuals` (J, D) are whitened y - G; their mean drops out.

    >>> z = np.array([[-1.0, 0.0], [1.0, -1.0], [0.0, 1.0]])
    >>> sensitivities(z, 5 - z @ np.array([[2.0], [3.0]])).round(12)
    array([[2.],
           [3.]])
    """
    regression = np.linalg.pinv(anomalies)
    # A narrow ensemble makes this large, and a mean it should annihilate shows through at its rounding
    # errors: 1e-8 of the posterior mean with a bundle of 1e-4, unless its rows sum to 0 themselves.
    regression -= regression.mean(axis=1, keepdims=True)
    return -regression @ residuals
