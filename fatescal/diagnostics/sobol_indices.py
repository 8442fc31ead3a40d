"""Sobol indices: which share of an output's variance each parameter explains, alone and with all others.

First-order indices by Saltelli et al. (2010, doi:10.1016/j.cpc.2009.09.018, table 2 b), total ones by Jansen
(1999, doi:10.1016/S0010-4655(98)00154-4), from a scrambled Sobol sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array

BOOTSTRAP = 100


@dataclass(frozen=True)
class SobolIndices:
    """Indices (P) of one output, with the standard errors that are due to the number of points.

    Attributes
    ----------
    first, first_error : (P) arrays
        Share of the variance that vanishes, on average, when the parameter is known.
    total, total_error : (P) arrays
        Share that remains, on average, when all others are known.
    unknown : float
        Share of the variance that an emulator itself does not know; 0 of an exact function. First-order and
        total indices of the model lie between the given ones times 1 - unknown, and that plus unknown.
    """

    first: Array
    first_error: Array
    total: Array
    total_error: Array
    unknown: float = 0.0

    def bounds(self, which: str, z: float = 1.6448536269514722) -> tuple[Array, Array]:
        """Return the ends (P) of the 90 % intervals of `first` or `total`, emulator and sampling error
        included."""
        index, error = getattr(self, which), z * getattr(self, f"{which}_error")
        low, high = (index - error) * (1 - self.unknown), (index + error) * (1 - self.unknown) + self.unknown
        return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def points(n_parameters: int, n: int, seed: int = 0) -> Array:
    """Return the points (n (P + 2), P) in the unit cube at which `indices` needs the output; n a power of 2.

    First n of A, n of B, then for each parameter those of A with its column from B.
    """
    from scipy.stats import qmc

    both = qmc.Sobol(2 * n_parameters, rng=np.random.default_rng(seed)).random(n)
    a, b = both[:, :n_parameters], both[:, n_parameters:]
    mixed = np.repeat(a[None], n_parameters, axis=0)
    for p in range(n_parameters):
        mixed[p, :, p] = b[:, p]
    return np.concatenate([a, b, *mixed])


def indices(values: Array, n_parameters: int, variance: Array | None = None, seed: int = 0) -> SobolIndices:
    """Return the indices of an output.

    Parameters
    ----------
    values : (n (P + 2)) array
        The output at `points`.
    n_parameters : int
    variance : (n (P + 2)) array, optional
        The emulator's own variance there.
    seed : int
        Of the bootstrap.
    """
    blocks = values.reshape(n_parameters + 2, -1)
    a, b, mixed = blocks[0], blocks[1], blocks[2:]
    n = len(a)

    def estimate(rows: Array) -> tuple[Array, Array]:
        spread = np.var(np.concatenate([a[rows], b[rows]]))
        if not spread > 0:
            return np.zeros(n_parameters), np.zeros(n_parameters)
        centre = np.mean(np.concatenate([a[rows], b[rows]]))
        first = np.mean((b[rows] - centre) * (mixed[:, rows] - a[rows]), axis=1) / spread
        total = 0.5 * np.mean((a[rows] - mixed[:, rows]) ** 2, axis=1) / spread
        return first, total

    rng = np.random.default_rng(seed)
    drawn = [estimate(rng.integers(0, n, n)) for _ in range(BOOTSTRAP)]
    errors = np.std(np.array(drawn), axis=0, ddof=1)
    first, total = estimate(np.arange(n))
    spread = float(np.var(np.concatenate([a, b])))
    own = 0.0 if variance is None else float(np.mean(variance.reshape(n_parameters + 2, -1)[:2]))
    unknown = own / (own + spread) if own > 0 else 0.0
    return SobolIndices(first, errors[0], total, errors[1], unknown)


def of_function(f: Callable[[Array], Array], n_parameters: int, n: int, seed: int = 0) -> SobolIndices:
    """Return the indices of a function of points (M, P) in the unit cube.

    >>> of_function(lambda x: 3 * x[:, 0] + x[:, 1], 2, 1024).first.round(2).tolist()
    [0.9, 0.1]
    """
    return indices(f(points(n_parameters, n, seed)), n_parameters)
