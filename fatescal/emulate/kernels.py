"""Correlations and trends that Gaussian processes are made of.

Which form is best depends on the model. A product of Matern functions over the parameters (the default of
DiceKriging, Roustant et al. 2012) learns what each parameter does alone from runs that differ in all others:
the embedded model (192 runs, six parameters) is predicted 0.0023 noise sd wrong, with one function of the
joint distance 0.0048; CLM-FATES (28 runs, six parameters) 0.137 and 0.156; but with 16 runs of two parameters
0.31 and 0.29. A trend makes linear models exact and helps where runs of a smooth model are few; in CLM-FATES
(28 runs, linear) it does harm. Inputs need no scaling, since every prior is N(0, 1) in u. A `warp` bends
each, so that the model is equally rough along it: the answer to Vcmax is nearly logarithmic, whatever the
prior is. It makes the product 0.146 and 0.30, the joint distance 0.145 and 0.26. So the outputs' emulator
tries them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array

JOINT, PRODUCT = "matern-5/2", "matern-5/2 product"  # kernels
SQRT5 = np.sqrt(5.0)


@dataclass(frozen=True)
class GPSpec:
    """What a process is made of: its kernel, the degree of its trend, and whether its inputs may bend."""

    kernel: str
    degree: int
    warped: bool = False


def trend(u: Array, degree: int) -> Array:
    """Return the monomials h(u) (M, p) of `u` (M, P) up to `degree` 0, 1 or 2.

    >>> trend(np.array([[2.0, 3.0]]), 2).tolist()
    [[1.0, 2.0, 3.0, 4.0, 6.0, 9.0]]
    """
    columns = [np.ones((len(u), 1))]
    if degree >= 1:
        columns.append(u)
    if degree >= 2:
        i, j = np.triu_indices(u.shape[1])
        columns.append(u[:, i] * u[:, j])
    return np.hstack(columns)


def trend_degree(n_rows: int, n_parameters: int, rows_each: int = 3) -> int:
    """Return the highest degree that leaves `rows_each` rows for every trend coefficient.

    >>> trend_degree(320, 6), trend_degree(28, 6), trend_degree(12, 6), trend_degree(28, 6, 6)
    (2, 1, 0, 0)
    """
    n_linear = 1 + n_parameters
    n_quadratic = n_linear + n_parameters * (n_parameters + 1) // 2
    return sum(n_rows >= rows_each * n for n in (n_linear, n_quadratic))


def matern(distances: Iterable[Array], kernel: str) -> Array:
    """Return the correlations (1 + r + r^2/3) exp(-r) of the joint distance, or their product over
    parameters.

    `distances` are the r_p = sqrt(5) |x_p - z_p| / length_p, an array for each parameter; jointly,
    r^2 = sum_p r_p^2.

    >>> r = [np.array([0.0, 3.0]), np.array([0.0, 4.0])]
    >>> matern(r, JOINT).round(4).tolist(), matern(r, PRODUCT).round(4).tolist()
    ([1.0, 0.0966], [1.0, 0.066])
    """
    if kernel == JOINT:
        distances = [np.sqrt(sum(r * r for r in distances))]
    total, polynomial = np.zeros(()), np.ones(())
    for r in distances:
        total = total + r
        polynomial = polynomial * (1.0 + r + r * r / 3.0)
    return polynomial * np.exp(-total)


def bent(x: Array, warp: Array) -> Array:
    """Return inputs (M, P) bent by `warp` (P): x + w (sqrt(1 + x^2) - 1), monotone for |w| < 1, straight far
    away.

    >>> bent(np.array([[-1.0], [0.0], [1.0]]), np.array([-0.5])).round(3).ravel().tolist()
    [-1.207, 0.0, 0.793]
    """
    return x + warp * (np.sqrt(1.0 + x * x) - 1.0)


def cross_correlation(x: Array, z: Array, kernel: str) -> Array:
    """Return the correlations (M, N) of `x` (M, P) and `z` (P, N), both over length scales."""
    if kernel == JOINT:  # by one matrix product, which halves the time of a prediction
        square = np.sum(x * x, axis=1)[:, None] + np.sum(z * z, axis=0) - 2.0 * (x @ z)
        return matern([SQRT5 * np.sqrt(np.maximum(square, 0.0))], kernel)
    return matern((SQRT5 * np.abs(x[:, p, None] - z[p]) for p in range(len(z))), kernel)


def pair_differences(u: Array) -> Array:
    """Return sqrt(5) (u_ip - u_jp) (P, N (N - 1) / 2) of the pairs i > j of the rows of `u` (N, P)."""
    i, j = np.tril_indices(len(u), -1)
    return SQRT5 * (u.T[:, i] - u.T[:, j])


def pair_distances(u: Array) -> Array:
    """Return the absolute `pair_differences`."""
    return np.abs(pair_differences(u))
